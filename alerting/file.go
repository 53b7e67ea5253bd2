package alerting

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	amconfig "github.com/prometheus/alertmanager/config"
	commoncfg "github.com/prometheus/common/config"
	yamlv2 "go.yaml.in/yaml/v2"
	"go.yaml.in/yaml/v3"

	"binnacle.io/alerting/dingtalk"
)

//go:embed default.yml
var defaultFile []byte

// file is a configuration file taken apart.
type file struct {
	am       *amconfig.Config
	dingtalk map[string][]*dingtalk.Config // by receiver
	text     []byte
}

func loadFile(path string) (*file, error) {
	if path == "" {
		return parseFile(defaultFile, "")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read alerting configuration: %w", err)
	}
	f, err := parseFile(text, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("cannot use alerting configuration %q: %w", path, err)
	}
	return f, nil
}

const dingtalkKey = "dingtalk_configs"

// unsupported are receivers of other Alertmanager extensions that people may
// expect here.
var unsupported = map[string]string{
	"feishu_configs": "use webhook_configs with a payload",
	"wecom_configs":  "use wechat_configs",
}

// parseFile separates our sections from Alertmanager's. Both parts keep their
// line numbers, because the other's lines are blanked, not removed.
func parseFile(text []byte, dir string) (*file, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	sections, err := findSections(&doc)
	if err != nil {
		return nil, err
	}
	out := &file{dingtalk: map[string][]*dingtalk.Config{}, text: text}
	lines := strings.SplitAfter(string(text), "\n")
	rest := make([]string, len(lines))
	copy(rest, lines)
	for _, s := range sections {
		own := make([]string, len(lines))
		for i := range lines {
			switch n := i + 1; {
			case n < s.first || n > s.last:
				own[i] = "\n"
			case n == s.first: // "- " before the key belongs to the receiver
				own[i] = strings.Repeat(" ", s.column-1) + lines[i][s.column-1:]
				rest[i] = strings.TrimRight(lines[i][:s.column-1], " ") + "\n"
			default:
				own[i], rest[i] = lines[i], "\n"
			}
		}
		var section struct {
			Configs []*dingtalk.Config `yaml:"dingtalk_configs"`
		}
		if err := yamlv2.UnmarshalStrict([]byte(strings.Join(own, "")), &section); err != nil {
			return nil, err
		}
		for i, c := range section.Configs {
			if c == nil {
				return nil, fmt.Errorf("line %d: entry %d of dingtalk_configs is empty", s.first, i+1)
			}
		}
		out.dingtalk[s.receiver] = section.Configs
	}
	if out.am, err = amconfig.Load(strings.Join(rest, "")); err != nil {
		return nil, err
	}
	if err := refuse(out.am); err != nil {
		return nil, err
	}
	for _, configs := range out.dingtalk {
		for _, c := range configs {
			if c.HTTPConfig == nil {
				c.HTTPConfig = out.am.Global.HTTPConfig
			}
			if dir != "" {
				c.SetDirectory(dir)
			}
		}
	}
	if dir != "" {
		for i, t := range out.am.Templates {
			if !filepath.IsAbs(t) {
				out.am.Templates[i] = filepath.Join(dir, t)
			}
		}
		setDirectory(reflect.ValueOf(out.am), dir, map[uintptr]bool{})
	}
	return out, nil
}

// section is where a receiver's dingtalk_configs stand, in lines from 1.
type section struct {
	receiver    string
	first, last int
	column      int // of the key, from 1
}

func findSections(doc *yaml.Node) ([]section, error) {
	if len(doc.Content) == 0 {
		return nil, nil // Alertmanager's parser says what is missing
	}
	var order []*yaml.Node
	var walk func(*yaml.Node)
	walk = func(n *yaml.Node) {
		order = append(order, n)
		for _, c := range n.Content {
			walk(c)
		}
	}
	walk(doc)
	var out []section
	receivers := field(doc.Content[0], "receivers")
	if receivers == nil || receivers.Kind != yaml.SequenceNode {
		return nil, nil
	}
	for _, r := range receivers.Content {
		if r.Kind != yaml.MappingNode {
			continue
		}
		for i := 0; i+1 < len(r.Content); i += 2 {
			key, value := r.Content[i], r.Content[i+1]
			if hint, ok := unsupported[key.Value]; ok {
				return nil, fmt.Errorf("line %d: %s is not supported: %s", key.Line, key.Value, hint)
			}
			if key.Value != dingtalkKey {
				continue
			}
			name := field(r, "name")
			if name == nil {
				return nil, fmt.Errorf("line %d: missing name in receiver", r.Line)
			}
			if r.Style&yaml.FlowStyle != 0 || receivers.Style&yaml.FlowStyle != 0 {
				return nil, fmt.Errorf("line %d: write a receiver with %s on lines of its own, without braces", key.Line, dingtalkKey)
			}
			if value.Kind == yaml.AliasNode {
				return nil, fmt.Errorf("line %d: write out %s, without an alias", key.Line, dingtalkKey)
			}
			out = append(out, section{receiver: name.Value, first: key.Line, last: endOf(order, value), column: key.Column})
		}
	}
	return out, nil
}

// endOf returns the last line before whatever follows n's subtree.
func endOf(order []*yaml.Node, n *yaml.Node) int {
	inside := map[*yaml.Node]bool{}
	var mark func(*yaml.Node)
	mark = func(n *yaml.Node) {
		inside[n] = true
		for _, c := range n.Content {
			mark(c)
		}
	}
	mark(n)
	after := false
	for _, o := range order {
		after = after || o == n
		if after && !inside[o] {
			return o.Line - 1
		}
	}
	return int(^uint(0) >> 1)
}

func field(mapping *yaml.Node, key string) *yaml.Node {
	if mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// refuse rejects what Alertmanager understands and this package would ignore.
func refuse(c *amconfig.Config) error {
	if !reflect.ValueOf(c.TracingConfig).IsZero() {
		return errors.New("the section tracing is not supported: notifications are traced by Binnacle itself")
	}
	if !reflect.ValueOf(c.EventRecorder).IsZero() {
		return errors.New("the section event_recorder is not supported")
	}
	for _, r := range c.Receivers {
		if len(r.SNSConfigs) > 0 {
			return fmt.Errorf("receiver %q: sns_configs is not supported", r.Name)
		}
		for _, s := range r.SlackConfigs {
			if s != nil && s.UpdateMessage {
				return fmt.Errorf("receiver %q: update_message in slack_configs is not supported: deliveries are queued", r.Name)
			}
		}
	}
	return nil
}

// setDirectory makes the file names in every HTTP client configuration below v
// relative to dir.
func setDirectory(v reflect.Value, dir string, seen map[uintptr]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() || seen[v.Pointer()] {
			return
		}
		seen[v.Pointer()] = true
		if v.CanInterface() {
			if h, ok := v.Interface().(*commoncfg.HTTPClientConfig); ok {
				h.SetDirectory(dir)
				return
			}
		}
		setDirectory(v.Elem(), dir, seen)
	case reflect.Struct:
		for i := range v.NumField() {
			setDirectory(v.Field(i), dir, seen)
		}
	case reflect.Slice:
		for i := range v.Len() {
			setDirectory(v.Index(i), dir, seen)
		}
	}
}
