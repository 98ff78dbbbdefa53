package job

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/covey-ml/covey/spec"
)

// maxFile bounds a job file; jobs are a page long.
const maxFile = 1 << 20

// Load reads a job file. Only keys that the file holds are set.
func Load(path string) (*Job, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if near := spec.NearestPath(path); near != "" {
			return nil, &Error{Where: path, Err: fmt.Errorf("there is no such job file: did you mean %s?", near)}
		}
		return nil, &Error{Where: path, Err: errors.New("there is no such job file")}
	}
	if err != nil {
		return nil, &Error{Err: err}
	}
	switch {
	case st.IsDir():
		return nil, &Error{Where: path, Err: errors.New("is a folder, expected a job file (to go on with a run, give --resume)")}
	case st.Size() > maxFile:
		return nil, &Error{Where: path, Err: fmt.Errorf("not a job file: over %d bytes", maxFile)}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, &Error{Err: err}
	}
	return Parse(path, b)
}

// Parse reads a job; name is the file's name in errors.
func Parse(name string, text []byte) (*Job, error) {
	j := &Job{}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return nil, &Error{Where: name, Err: errors.New("not a job file: not text in UTF-8")}
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, syntaxError(name, err)
	}
	for i, doc := range file.Docs {
		if i > 0 && doc.Body != nil {
			return nil, &Error{Where: at(name, doc.Body.GetToken()), Err: errors.New("a second document begins here: a job file is one")}
		}
		var pairs []*ast.MappingValueNode
		switch body := doc.Body.(type) {
		case nil, *ast.NullNode, *ast.CommentGroupNode:
		case *ast.MappingNode:
			pairs = body.Values
		case *ast.MappingValueNode:
			pairs = []*ast.MappingValueNode{body}
		default:
			return nil, &Error{Where: at(name, body.GetToken()), Err: errors.New("expected keys, as in model: mlp:128")}
		}
		for _, p := range pairs {
			key := p.Key.GetToken().Value
			where := at(name, p.Key.GetToken())
			if j.where[strings.ReplaceAll(key, "-", "_")] != "" {
				return nil, &Error{Where: where, Err: fmt.Errorf("key %q stands twice", key)}
			}
			text, err := j.text(key, p.Value)
			if err != nil {
				return nil, &Error{Where: where, Key: key, Err: err}
			}
			if err := j.Set(key, text, where); err != nil {
				return nil, err
			}
		}
	}
	return j, nil
}

func syntaxError(name string, err error) error {
	var y yaml.Error
	if errors.As(err, &y) {
		if strings.Contains(y.GetMessage(), "'\t'") {
			return &Error{Where: at(name, y.GetToken()), Err: errors.New("the line begins with a tab: YAML is indented with spaces")}
		}
		return &Error{Where: at(name, y.GetToken()), Err: errors.New(y.GetMessage())}
	}
	return &Error{Where: name, Err: err}
}

func at(name string, t *token.Token) string {
	if t == nil || t.Position == nil {
		return name
	}
	return fmt.Sprintf("%s:%d", name, t.Position.Line)
}

// text turns a YAML value into what Set takes. A choice may be a mapping: {mlp: [128, 64]} is mlp:128,64 and
// {sgd: {momentum: 0.9}} is sgd:momentum=0.9.
func (j *Job) text(key string, n ast.Node) (string, error) {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return "", errors.New("anchors, aliases and tags are not read here: write the value itself")
	}
	if s, ok := scalar(n); ok {
		return s, nil
	}
	f, known := j.field(strings.ReplaceAll(key, "-", "_"))
	if known {
		switch f.Interface().(type) {
		case Choice:
		case Rules:
			return rules(n)
		default:
			return "", fmt.Errorf("takes one value, not a list or mapping")
		}
	}
	return choice(n)
}

// choice turns one name with its parameters into a choice's text.
func choice(n ast.Node) (string, error) {
	pairs := mapping(n)
	if len(pairs) != 1 {
		return "", fmt.Errorf("expected a name such as mlp:128, or one name with its parameters such as {mlp: [128]}")
	}
	name := pairs[0].Key.GetToken().Value
	var parts []string
	if seq, ok := pairs[0].Value.(*ast.SequenceNode); ok {
		for _, v := range seq.Values {
			s, ok := scalar(v)
			if !ok {
				return "", fmt.Errorf("%s: a value in the list is not a plain value", name)
			}
			parts = append(parts, s)
		}
	} else if s, ok := scalar(pairs[0].Value); ok {
		if s != "" {
			parts = append(parts, s)
		}
	} else {
		for _, p := range mapping(pairs[0].Value) {
			s, ok := scalar(p.Value)
			if !ok {
				return "", fmt.Errorf("%s: %s is not a plain value", name, p.Key.GetToken().Value)
			}
			parts = append(parts, p.Key.GetToken().Value+"="+s)
		}
	}
	if len(parts) == 0 {
		return name, nil
	}
	return name + ":" + strings.Join(parts, ","), nil
}

func scalar(n ast.Node) (string, bool) {
	switch v := n.(type) {
	case *ast.NullNode:
		return "", true
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case ast.ScalarNode:
		return v.GetToken().Value, true
	}
	return "", false
}

func mapping(n ast.Node) []*ast.MappingValueNode {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}
	}
	return nil
}

// YAML writes the whole job, every key with its value, so that Parse reads the same job back.
func (j *Job) YAML() []byte {
	var b strings.Builder
	for _, k := range Keys() {
		v := j.Get(k.Name)
		f, _ := j.field(k.Name)
		switch f.Interface().(type) {
		case string, Choice, Rules:
			if q, err := yaml.Marshal(v); err == nil {
				v = strings.TrimSpace(string(q))
			}
		}
		fmt.Fprintf(&b, "%s: %s\n", k.Name, v)
	}
	return []byte(b.String())
}
