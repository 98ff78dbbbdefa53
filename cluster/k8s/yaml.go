package k8s

import (
	"bytes"
	"encoding/json"

	"github.com/goccy/go-yaml"
)

// mapping and list are YAML in the order in which it is to be read.
type (
	mapping []entry
	list    []any
	entry   struct {
		key   string
		value any
	}
)

func (m mapping) with(key string, value any) mapping {
	return append(m[:len(m):len(m)], entry{key, value})
}

// MarshalYAML implements yaml.InterfaceMarshaler.
func (m mapping) MarshalYAML() (any, error) {
	out := make(yaml.MapSlice, len(m))
	for i, e := range m {
		out[i] = yaml.MapItem{Key: e.key, Value: e.value}
	}
	return out, nil
}

// text is a string that users wrote or that looks like something else. It is always quoted: Kubernetes reads YAML 1.1, where
// yes, 1:30 and 0o7 are no strings.
type text string

// MarshalYAML implements yaml.BytesMarshaler: what JSON quotes, YAML reads.
func (t text) MarshalYAML() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(string(t)); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

func marshal(m mapping) ([]byte, error) {
	return yaml.MarshalWithOptions(m, yaml.Indent(2), yaml.IndentSequence(false), yaml.UseLiteralStyleIfMultiline(true))
}
