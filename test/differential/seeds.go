package differential

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// A seedFile is the hand-written part of a corpus file.
type seedFile struct {
	name string
	// Path is the collection's, with {namespace} in it where the kind is
	// namespaced.
	Path string `json:"path"`
	// Needs are objects that the seeds refer to.
	Needs []need `json:"needs"`
	// Seeds are valid objects, by name. One with a status gets it through
	// the status subresource before updates are tried on it.
	Seeds map[string]tree `json:"seeds"`
	// Order is that in which the seeds are looked at for fields to change.
	Order []string `json:"order"`
	// Carries lists the subresources that carry the object itself.
	Carries []string `json:"carries"`
	// Bodies are those of the other subresources, by name.
	Bodies map[string]map[string]tree `json:"bodies"`
	// Volatile places are left out of the answers, since they differ from
	// run to run.
	Volatile []string `json:"volatile"`
	// Ignored places are left out whatever they hold: what v1.37 has and
	// the recorded upstream has not, or what is of the user who asks.
	Ignored []string `json:"ignored"`
	// Metadata says that every part of it is looked at.
	Metadata bool `json:"metadata"`
	// Virtual objects are answered and never stored.
	Virtual bool `json:"virtual"`
	// Limit is how many cases there may be of each family; 0 means the
	// generator's own.
	Limit int `json:"limit"`
}

// A need is an object that must be there, and the path of its collection.
type need struct {
	Path   string `json:"path"`
	Object tree   `json:"object"`
}

func readSeeds(dir string) ([]*seedFile, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	var files []*seedFile
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		f := &seedFile{name: strings.TrimSuffix(filepath.Base(name), ".yaml")}
		if err := yaml.UnmarshalStrict(data, f); err != nil {
			return nil, fmt.Errorf("cannot read seeds %s: %w", name, err)
		}
		// Through JSON once more: numbers as they travel.
		for seed := range f.Seeds {
			f.Seeds[seed] = numbers(f.Seeds[seed])
			if !slices.Contains(f.Order, seed) {
				return nil, fmt.Errorf("cannot read seeds %s: %s is not in the order", name, seed)
			}
		}
		for _, bodies := range f.Bodies {
			for b := range bodies {
				bodies[b] = numbers(bodies[b])
			}
		}
		files = append(files, f)
	}
	return files, nil
}

func numbers(t tree) tree {
	n, err := parseTree([]byte(printTree(t)))
	if err != nil {
		panic(err) // it was just printed
	}
	return n
}

// namespace in which the file's objects live.
func (f *seedFile) namespace() string { return "differential-" + strings.ReplaceAll(f.name, ".", "-") }

func (f *seedFile) collection() string {
	return strings.ReplaceAll(f.Path, "{namespace}", f.namespace())
}
