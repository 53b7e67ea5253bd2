package kind

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// apiServiceKind is the entry of one group version: of this server's own ones
// and of those that another server is to answer. Those of other servers are
// kept, and their condition says that nothing is forwarded to them.
func apiServiceKind(gv schema.GroupVersion) *Kind {
	k := define[apiregistrationv1.APIService, apiregistrationv1.APIServiceList](gv, "apiservices").inCluster()
	k.Prefix = gv.Group + "/apiservices"
	k.Categories = []string{"api-extensions"}
	k.Default = do1(func(s *apiregistrationv1.APIService) {
		if s.Spec.Service != nil {
			orPointer(&s.Spec.Service.Port, 443)
		}
	})
	k.PrepareCreate = do1(func(s *apiregistrationv1.APIService) {
		s.Status = apiregistrationv1.APIServiceStatus{Conditions: []apiregistrationv1.APIServiceCondition{availability(s, metav1.Now())}}
	})
	k.PrepareUpdate = do2(func(s, old *apiregistrationv1.APIService) {
		s.Status = *old.Status.DeepCopy()
		if (s.Spec.Service == nil) != (old.Spec.Service == nil) {
			setCondition(s, availability(s, metav1.Now()))
		}
	})
	k.AnyFinalizer = true
	k.ValidateName = func(name string, prefix bool) []string { return path.ValidatePathSegmentName(name, prefix) }
	k.Validate = check1(validateAPIService)
	k.ValidateUpdate = check2(func(s, _ *apiregistrationv1.APIService) field.ErrorList { return validateAPIService(s) })
	k.Subresources = []Subresource{status(
		func(s, old *apiregistrationv1.APIService) { s.Spec = *old.Spec.DeepCopy() },
		func(s, _ *apiregistrationv1.APIService) field.ErrorList {
			var errs field.ErrorList
			for i, c := range s.Status.Conditions {
				errs = append(errs, supported(field.NewPath("status", "conditions").Index(i).Child("status"), c.Status,
					apiregistrationv1.ConditionTrue, apiregistrationv1.ConditionFalse, apiregistrationv1.ConditionUnknown)...)
			}
			return errs
		})}
	k.Columns = named[*apiregistrationv1.APIService]().
		text("Service", "The reference to the service that hosts this API endpoint.", func(s *apiregistrationv1.APIService) string {
			if s.Spec.Service == nil {
				return "Local"
			}
			return s.Spec.Service.Namespace + "/" + s.Spec.Service.Name
		}).
		text("Available", "Whether this service is available.", availableText).
		age()
	return k
}

func availableText(s *apiregistrationv1.APIService) string {
	for _, c := range s.Status.Conditions {
		if c.Type != apiregistrationv1.Available {
			continue
		}
		if c.Status != apiregistrationv1.ConditionTrue && c.Reason != "" {
			return fmt.Sprintf("%s (%s)", c.Status, c.Reason)
		}
		return string(c.Status)
	}
	return string(apiregistrationv1.ConditionUnknown)
}

// availability is what can be said of an entry without asking anybody.
func availability(s *apiregistrationv1.APIService, now metav1.Time) apiregistrationv1.APIServiceCondition {
	c := apiregistrationv1.APIServiceCondition{
		Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, LastTransitionTime: now,
		Reason: "Local", Message: "Local APIServices are always available",
	}
	if s.Spec.Service != nil {
		c.Status, c.Reason = apiregistrationv1.ConditionFalse, "AggregationNotSupported"
		c.Message = fmt.Sprintf("requests for %s are not forwarded to other API servers yet", s.Name)
	}
	return c
}

func setCondition(s *apiregistrationv1.APIService, c apiregistrationv1.APIServiceCondition) {
	for i := range s.Status.Conditions {
		if s.Status.Conditions[i].Type == c.Type {
			s.Status.Conditions[i] = c
			return
		}
	}
	s.Status.Conditions = append(s.Status.Conditions, c)
}

func validateAPIService(s *apiregistrationv1.APIService) field.ErrorList {
	p, spec := field.NewPath("spec"), &s.Spec
	var errs field.ErrorList
	want := spec.Version + "." + spec.Group
	for _, f := range []struct{ name, value string }{{"generateName", s.GenerateName}, {"name", s.Name}} {
		if f.value != "" && f.value != want {
			errs = append(errs, field.Invalid(field.NewPath("metadata", f.name), f.value, fmt.Sprintf("must be `spec.version+\".\"+spec.group`: %q", want)))
		}
	}
	if spec.Group == "" && spec.Version != "v1" {
		errs = append(errs, field.Required(p.Child("group"), "only v1 may have an empty group and it better be legacy kube"))
	}
	if spec.Group != "" {
		errs = append(errs, invalids(p.Child("group"), spec.Group, validation.IsDNS1123Subdomain(spec.Group))...)
	}
	errs = append(errs, invalids(p.Child("version"), spec.Version, validation.IsDNS1035Label(spec.Version))...)
	if n := spec.GroupPriorityMinimum; n <= 0 || n > 20000 {
		errs = append(errs, field.Invalid(p.Child("groupPriorityMinimum"), n, "must be positive and less than 20000"))
	}
	if n := spec.VersionPriority; n <= 0 || n > 1000 {
		errs = append(errs, field.Invalid(p.Child("versionPriority"), n, "must be positive and less than 1000"))
	}
	if spec.Service == nil {
		if n := len(spec.CABundle); n > 0 {
			errs = append(errs, field.Invalid(p.Child("caBundle"), fmt.Sprintf("%d bytes", n), "local APIServices may not have a caBundle"))
		}
		if spec.InsecureSkipTLSVerify {
			errs = append(errs, field.Invalid(p.Child("insecureSkipTLSVerify"), true, "local APIServices may not have insecureSkipTLSVerify"))
		}
		return errs
	}
	at := p.Child("service")
	errs = append(errs, required(at.Child("namespace"), spec.Service.Namespace, nil)...)
	errs = append(errs, required(at.Child("name"), spec.Service.Name, nil)...)
	for _, m := range validation.IsValidPortNum(int(deref(spec.Service.Port))) {
		errs = append(errs, field.Invalid(at.Child("port"), deref(spec.Service.Port), "port is not valid: "+m))
	}
	if spec.InsecureSkipTLSVerify && len(spec.CABundle) > 0 {
		errs = append(errs, field.Invalid(p.Child("insecureSkipTLSVerify"), true, "may not be true if caBundle is present"))
	}
	return errs
}
