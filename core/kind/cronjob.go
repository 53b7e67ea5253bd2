package kind

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxCronJobName leaves room for the 11 characters that its jobs' names add.
const maxCronJobName = 52

func cronJobKind(gv schema.GroupVersion) *Kind {
	k := define[batchv1.CronJob, batchv1.CronJobList](gv, "cronjobs", "cj").inAll()
	k.Default = do1(func(c *batchv1.CronJob) {
		s := &c.Spec
		orElse(&s.ConcurrencyPolicy, batchv1.AllowConcurrent)
		orPointer(&s.Suspend, false)
		orPointer(&s.SuccessfulJobsHistoryLimit, 3)
		orPointer(&s.FailedJobsHistoryLimit, 1)
		defaultPodSpec(&s.JobTemplate.Spec.Template.Spec)
	})
	k.PrepareCreate = do1(func(c *batchv1.CronJob) {
		c.Status = batchv1.CronJobStatus{}
		c.Generation = 1
	})
	k.PrepareUpdate = do2(func(c, old *batchv1.CronJob) {
		c.Status = *old.Status.DeepCopy()
		raise(c, old, &c.Spec, &old.Spec)
	})
	k.Validate = check1(validateCronJob)
	k.ValidateUpdate = check2(func(c, _ *batchv1.CronJob) field.ErrorList { return validateCronJob(c) })
	k.ValidateName = func(name string, prefix bool) []string {
		msgs := apivalidation.NameIsDNSSubdomain(name, prefix)
		if !prefix && len(name) > maxCronJobName {
			msgs = append(msgs, fmt.Sprintf("must be no more than %d characters", maxCronJobName))
		}
		return msgs
	}
	warnOfTemplate(k, true, func(c *batchv1.CronJob) []string {
		warnings := podWarnings(field.NewPath("spec", "jobTemplate", "spec", "template"), &c.Spec.JobTemplate.Spec.Template.ObjectMeta, &c.Spec.JobTemplate.Spec.Template.Spec)
		if strings.Contains(c.Spec.Schedule, "TZ") {
			warnings = append(warnings, "spec.schedule: cannot use TZ or CRON_TZ in schedule, use timeZone field instead")
		}
		return warnings
	})
	k.Columns = cronJobColumns()
	k.Subresources = []Subresource{status(func(c, old *batchv1.CronJob) {
		c.Spec = *old.Spec.DeepCopy()
		c.Generation = old.Generation
	}, nil)}
	return k
}

func validateCronJob(c *batchv1.CronJob) field.ErrorList {
	p, s := field.NewPath("spec"), &c.Spec
	var errs field.ErrorList
	if s.Schedule == "" {
		errs = append(errs, field.Required(p.Child("schedule"), ""))
	} else if strings.Contains(s.Schedule, "TZ") {
		errs = append(errs, field.Invalid(p.Child("schedule"), s.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
	} else if err := checkSchedule(s.Schedule); err != nil {
		errs = append(errs, field.Invalid(p.Child("schedule"), s.Schedule, err.Error()))
	}
	if s.TimeZone != nil {
		at := p.Child("timeZone")
		switch _, err := time.LoadLocation(*s.TimeZone); {
		case *s.TimeZone == "":
			errs = append(errs, field.Invalid(at, *s.TimeZone, "timeZone must be nil or non-empty string"))
		case strings.EqualFold(*s.TimeZone, "Local"):
			errs = append(errs, field.Invalid(at, *s.TimeZone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
		case err != nil:
			errs = append(errs, field.Invalid(at, *s.TimeZone, err.Error()))
		}
	}
	if s.StartingDeadlineSeconds != nil {
		errs = append(errs, nonNegative(p.Child("startingDeadlineSeconds"), *s.StartingDeadlineSeconds)...)
	}
	errs = append(errs, oneOf(p.Child("concurrencyPolicy"), s.ConcurrencyPolicy,
		batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)...)
	template := p.Child("jobTemplate", "spec")
	errs = append(errs, validateJobSpec(template, &s.JobTemplate.Spec)...)
	if sel := s.JobTemplate.Spec.Selector; sel != nil {
		errs = append(errs, field.Invalid(template.Child("selector"), sel, "`selector` will be auto-generated"))
	}
	if deref(s.JobTemplate.Spec.ManualSelector) {
		errs = append(errs, &field.Error{Type: field.ErrorTypeNotSupported, Field: template.Child("manualSelector").String(), BadValue: true, Detail: `supported values: "nil", "false"`})
	}
	errs = append(errs, nonNegative32(p.Child("successfulJobsHistoryLimit"), s.SuccessfulJobsHistoryLimit)...)
	return append(errs, nonNegative32(p.Child("failedJobsHistoryLimit"), s.FailedJobsHistoryLimit)...)
}

// checkSchedule checks the five fields of cron, or one of its names.
func checkSchedule(s string) error {
	switch s {
	case "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly":
		return nil
	}
	if every, ok := strings.CutPrefix(s, "@every "); ok {
		if _, err := time.ParseDuration(every); err != nil {
			return fmt.Errorf("failed to parse duration %s: %w", s, err)
		}
		return nil
	}
	if strings.HasPrefix(s, "@") {
		return fmt.Errorf("unrecognized descriptor: %s", s)
	}
	parts := strings.Fields(s)
	if len(parts) != 5 {
		return fmt.Errorf("expected exactly 5 fields, found %d: %v", len(parts), parts)
	}
	bounds := []struct {
		low, high int
		names     string
	}{
		{0, 59, ""}, {0, 23, ""}, {1, 31, ""},
		{1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"},
		{0, 6, "sun mon tue wed thu fri sat"},
	}
	for i, part := range parts {
		names := strings.Fields(bounds[i].names)
		for item := range strings.SplitSeq(part, ",") {
			if err := checkCronRange(item, bounds[i].low, bounds[i].high, names); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkCronRange(item string, low, high int, names []string) error {
	number := func(s string) (int, error) {
		for i, name := range names {
			if strings.EqualFold(s, name) {
				return low + i, nil
			}
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			return 0, fmt.Errorf("failed to parse int from %s: %w", s, err)
		}
		if n < 0 {
			return 0, fmt.Errorf("negative number (%d) not allowed: %s", n, s)
		}
		return n, nil
	}
	span, step, stepped := strings.Cut(item, "/")
	if stepped {
		n, err := number(step)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("step of range should be a positive number: %s", item)
		}
	}
	if span == "*" || span == "?" {
		return nil
	}
	from, to, ranged := strings.Cut(span, "-")
	start, err := number(from)
	if err != nil {
		return err
	}
	end := start
	if ranged {
		if end, err = number(to); err != nil {
			return err
		}
	}
	switch {
	case start < low:
		return fmt.Errorf("beginning of range (%d) below minimum (%d): %s", start, low, item)
	case end > high:
		return fmt.Errorf("end of range (%d) above maximum (%d): %s", end, high, item)
	case start > end:
		return fmt.Errorf("beginning of range (%d) beyond end of range (%d): %s", start, end, item)
	}
	return nil
}

func cronJobColumns() []Column {
	doc, status := batchv1.CronJobSpec{}.SwaggerDoc(), batchv1.CronJobStatus{}.SwaggerDoc()
	return named[*batchv1.CronJob]().
		text("Schedule", doc["schedule"], func(c *batchv1.CronJob) string { return c.Spec.Schedule }).
		text("Timezone", doc["timeZone"], func(c *batchv1.CronJob) string { return orNone(deref(c.Spec.TimeZone)) }).
		text("Suspend", doc["suspend"], func(c *batchv1.CronJob) string {
			if c.Spec.Suspend == nil {
				return "<unset>"
			}
			return strings.ToUpper(boolText(*c.Spec.Suspend)[:1]) + boolText(*c.Spec.Suspend)[1:]
		}).as("boolean").
		count("Active", status["active"], func(c *batchv1.CronJob) int64 { return int64(len(c.Status.Active)) }).
		at("Last Schedule", status["lastScheduleTime"], func(c *batchv1.CronJob, now time.Time) string {
			if c.Status.LastScheduleTime == nil {
				return "<none>"
			}
			return since(*c.Status.LastScheduleTime, now)
		}).
		age().
		template(func(c *batchv1.CronJob) *corev1.PodSpec { return &c.Spec.JobTemplate.Spec.Template.Spec }).
		text("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"], func(c *batchv1.CronJob) string {
			return selectorText(c.Spec.JobTemplate.Spec.Selector)
		}).wide()
}
