package kind

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/duration"
)

// columns collects a kind's columns.
type columns[T Object] []Column

// text adds a column of strings, count one of integers, flag one of booleans.
func (c columns[T]) text(name, description string, cell func(T) string) columns[T] {
	return c.at(name, description, func(t T, _ time.Time) string { return cell(t) })
}

// at is text that depends on the present time.
func (c columns[T]) at(name, description string, cell func(T, time.Time) string) columns[T] {
	return append(c, Column{
		TableColumnDefinition: metav1.TableColumnDefinition{Name: name, Type: "string", Description: description},
		Cell:                  func(o Object, now time.Time) any { return cell(o.(T), now) },
	})
}

// mixed is text where the cell is sometimes a number.
func (c columns[T]) mixed(name, description string, cell func(T) any) columns[T] {
	return append(c, Column{
		TableColumnDefinition: metav1.TableColumnDefinition{Name: name, Type: "string", Description: description},
		Cell:                  func(o Object, _ time.Time) any { return cell(o.(T)) },
	})
}

func (c columns[T]) count(name, description string, cell func(T) int64) columns[T] {
	return append(c, Column{
		TableColumnDefinition: metav1.TableColumnDefinition{Name: name, Type: "integer", Description: description},
		Cell:                  func(o Object, _ time.Time) any { return cell(o.(T)) },
	})
}

func (c columns[T]) flag(name, description string, cell func(T) bool) columns[T] {
	return append(c, Column{
		TableColumnDefinition: metav1.TableColumnDefinition{Name: name, Type: "boolean", Description: description},
		Cell:                  func(o Object, _ time.Time) any { return cell(o.(T)) },
	})
}

func (c columns[T]) name() columns[T] {
	return append(c, Column{
		TableColumnDefinition: metav1.TableColumnDefinition{
			Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"],
		},
		Cell: func(o Object, _ time.Time) any { return o.GetName() },
	})
}

func (c columns[T]) age() columns[T] {
	return c.at("Age", metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"], func(t T, now time.Time) string {
		return since(t.GetCreationTimestamp(), now)
	})
}

// as declares the last column to be of another type than its cells, where
// upstream does.
func (c columns[T]) as(kind string) columns[T] {
	c[len(c)-1].Type = kind
	return c
}

func (c columns[T]) format(format string) columns[T] {
	c[len(c)-1].Format = format
	return c
}

// wide makes the last column one that only -o wide shows.
func (c columns[T]) wide() columns[T] {
	c[len(c)-1].Priority = 1
	return c
}

// DefaultColumns are upstream's for kinds that have none of their own.
func DefaultColumns() []Column {
	return append(named[Object](), Column{
		TableColumnDefinition: metav1.TableColumnDefinition{
			Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
		},
		Cell: func(o Object, _ time.Time) any { return o.GetCreationTimestamp().UTC().Format(time.RFC3339) },
	})
}

// named starts a kind's columns with its name.
func named[T Object]() columns[T] { return columns[T]{}.name() }

// since is an age as kubectl shows it.
func since(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

// orNone joins what there is.
func orNone(parts ...string) string {
	if s := strings.Join(parts, ","); s != "" {
		return s
	}
	return "<none>"
}

func deref[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

func containerNames(cs []corev1.Container) string {
	var names []string
	for _, c := range cs {
		names = append(names, c.Name)
	}
	return strings.Join(names, ",")
}

func containerImages(cs []corev1.Container) string {
	var images []string
	for _, c := range cs {
		images = append(images, c.Image)
	}
	return strings.Join(images, ",")
}

// template adds the wide columns of kinds that make pods.
func (c columns[T]) template(of func(T) *corev1.PodSpec) columns[T] {
	return c.text("Containers", "Names of each container in the template.", func(t T) string {
		return containerNames(of(t).Containers)
	}).wide().text("Images", "Images referenced by each container in the template.", func(t T) string {
		return containerImages(of(t).Containers)
	}).wide()
}

// labelsText is a set of labels as kubectl shows it, by key.
func labelsText(set map[string]string) string {
	if len(set) == 0 {
		return "<none>"
	}
	return labels.Set(set).String()
}

func selectorText(s *metav1.LabelSelector) string { return metav1.FormatLabelSelector(s) }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func componentStatusColumns() []Column {
	condition := func(cs *corev1.ComponentStatus) corev1.ComponentCondition {
		for _, c := range cs.Conditions {
			if c.Type == corev1.ComponentHealthy {
				return c
			}
		}
		return corev1.ComponentCondition{}
	}
	return named[*corev1.ComponentStatus]().
		text("Status", "Status of the component conditions", func(cs *corev1.ComponentStatus) string {
			switch condition(cs).Status {
			case corev1.ConditionTrue:
				return "Healthy"
			case corev1.ConditionFalse:
				return "Unhealthy"
			}
			return "Unknown"
		}).
		text("Message", "Message of the component conditions", func(cs *corev1.ComponentStatus) string { return condition(cs).Message }).
		text("Error", "Error of the component conditions", func(cs *corev1.ComponentStatus) string { return condition(cs).Error })
}
