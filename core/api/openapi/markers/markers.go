package markers

import (
	_ "embed"
	"encoding/json"
	"fmt"
)

//go:generate go run ./read -o types.json

// Type is what comments say of a type.
type Type struct {
	// Doc describes it, where it has no SwaggerDoc.
	Doc string `json:",omitempty"`
	// Enum are the values of a string type, by value.
	Enum []Value `json:",omitempty"`
	// Atomic structs are replaced as a whole.
	Atomic bool `json:",omitempty"`
	// Union types have at most one of their optional fields set;
	// Discriminator is the one that says which.
	Union         bool   `json:",omitempty"`
	Discriminator string `json:",omitempty"`
	// Fields by Go name.
	Fields map[string]Field `json:",omitempty"`
}

// Value is one of an enumeration.
type Value struct {
	Value string
	Doc   string `json:",omitempty"`
}

// Field is what comments say of a field.
type Field struct {
	Doc string `json:",omitempty"`
	// Optional and Required are set where a comment says otherwise than the
	// JSON tag.
	Optional bool `json:",omitempty"`
	Required bool `json:",omitempty"`
	// List is atomic, set or map; Keys are those of a map list.
	List string   `json:",omitempty"`
	Keys []string `json:",omitempty"`
	// Map is atomic or granular.
	Map string `json:",omitempty"`
	// Default is a JSON value.
	Default json.RawMessage `json:",omitempty"`
}

//go:embed types.json
var types []byte

// Types returns what is known, by import path and name of the Go type.
func Types() (map[string]Type, error) {
	out := map[string]Type{}
	if err := json.Unmarshal(types, &out); err != nil {
		return nil, fmt.Errorf("cannot read the markers of the API types: %w", err)
	}
	return out, nil
}
