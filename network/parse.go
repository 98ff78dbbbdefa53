package network

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/covey-ml/covey/spec"
)

// Bounds of a file, which is a page long.
const (
	maxFile  = 1 << 20
	maxNest  = 64  // brackets and dashes inside each other
	maxDepth = 16  // zones inside each other
	maxSlow  = 100 // slow-downs, each of which is compared with every host
	maxDims  = 8
)

// Load reads a file. Errors say line and column, what is wrong there, and the nearest right choice.
func Load(name string) (*Network, error) {
	st, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if near := spec.NearestPath(name); near != "" {
			return nil, &Error{Where: name, Err: fmt.Errorf("there is no such network file: did you mean %s?", near)}
		}
		return nil, &Error{Where: name, Err: errors.New("there is no such network file")}
	case err != nil:
		return nil, &Error{Err: err}
	case st.IsDir():
		return nil, &Error{Where: name, Err: errors.New("is a folder, expected a network file")}
	case st.Size() > maxFile:
		return nil, &Error{Where: name, Err: fmt.Errorf("not a network file: over %d bytes", maxFile)}
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, &Error{Err: err}
	}
	return Parse(name, b)
}

// Parse reads a network from the text of a file, of which name is the name in errors.
func Parse(name string, text []byte) (*Network, error) {
	if len(text) > maxFile {
		return nil, &Error{Where: name, Err: fmt.Errorf("not a network file: over %d bytes", maxFile)}
	}
	bare := bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(bare) || bytes.IndexByte(bare, 0) >= 0 {
		return nil, &Error{Where: name, Err: errors.New("not a network file: not text in UTF-8")}
	}
	r := &reader{file: name}
	doc := r.document(bare)
	if r.err != nil {
		return nil, r.err
	}
	p := r.network(doc)
	if r.err != nil {
		return nil, r.err
	}
	n, err := build(p)
	if err != nil {
		return nil, err
	}
	n.text = bytes.Clone(text)
	return n, nil
}

// reader turns the nodes of a file into a plan. It remembers the first thing that is wrong.
type reader struct {
	file  string
	err   error
	slow  []slowPlan // patterns of slow-downs, each of which must mean a host
	slows int
}

// document parses the text, after bounding what would make the parser recurse deep or take long.
func (r *reader) document(text []byte) ast.Node {
	tokens := lexer.Tokenize(string(text))
	if r.bound(tokens); r.err != nil {
		return nil
	}
	file, err := parser.Parse(tokens, 0)
	var y yaml.Error
	switch {
	case errors.As(err, &y) && strings.Contains(y.GetMessage(), "'\t'"):
		r.fail(y.GetToken(), "the line begins with a tab: YAML is indented with spaces")
	case errors.As(err, &y):
		r.fail(y.GetToken(), "%s", y.GetMessage())
	case err != nil:
		r.fail(nil, "%w", err)
	}
	if r.err != nil {
		return nil
	}
	var body ast.Node
	for i, doc := range file.Docs {
		if i > 0 && doc.Body != nil {
			r.fail(first(doc.Body), "a second document begins here: a network file is one")
			return nil
		}
		body = doc.Body
	}
	switch body.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		r.fail(nil, "the file is empty: expected hosts, zones or torus")
	}
	return body
}

// bound refuses deep nesting, in which the parser recurses; keys and dashes with nothing behind them, for each of which it
// moves all that follows; and what a network file has no use for.
func (r *reader) bound(all token.Tokens) {
	tokens := make([]*token.Token, 0, len(all)) // all but comments
	for _, t := range all {
		if t.Type != token.CommentType {
			tokens = append(tokens, t)
		}
	}
	flow, dashes, line := 0, 0, 0
	for i, t := range tokens {
		if t.Position.Line != line {
			dashes, line = 0, t.Position.Line
		}
		owner := t // what the value behind belongs to
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			dashes++
		case token.MappingValueType:
			owner = tokens[max(i-1, 0)]
		case token.TagType, token.AnchorType, token.AliasType, token.MergeKeyType:
			r.fail(t, "anchors, aliases and tags are not read here: write the value itself")
		}
		if flow > maxNest || dashes > maxNest {
			r.fail(t, "nested more than %d deep", maxNest)
		}
		if (owner != t || t.Type == token.SequenceEntryType) && i+1 < len(tokens) && tokens[i+1].Type != token.InvalidType {
			next := tokens[i+1]
			below := next.Position.Line > t.Position.Line && next.Position.Column <= owner.Position.Column
			list := owner != t && next.Type == token.SequenceEntryType && next.Position.Column == owner.Position.Column
			if flow == 0 && below && !list || flow > 0 && (next.Type == token.CollectEntryType || next.Type == token.MappingEndType) {
				r.fail(owner, "%s has no value", owner.Value)
			}
		}
		if r.err != nil {
			return
		}
	}
}

func (r *reader) fail(t *token.Token, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Where: r.at(t), Err: fmt.Errorf(format, args...)}
	}
}

func (r *reader) at(t *token.Token) string {
	if t == nil || t.Position == nil {
		return r.file
	}
	return fmt.Sprintf("%s:%d:%d", r.file, t.Position.Line, t.Position.Column)
}

// first is the token that a node begins with.
func first(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return first(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return first(n.Key)
	}
	return n.GetToken()
}

// value is what stands behind a key; its node is nil when the key is not there.
type value struct {
	key  string
	node ast.Node
}

// wrong says what is wrong with a value, and names its key.
func (r *reader) wrong(v value, format string, args ...any) {
	r.fail(first(v.node), v.key+": "+format, args...)
}

// fields returns the values of a mapping, by key. Only the known keys may be there, each once.
func (r *reader) fields(v value, known ...string) map[string]value {
	var pairs []*ast.MappingValueNode
	switch m := v.node.(type) {
	case *ast.MappingNode:
		pairs = m.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{m}
	default:
		r.wrong(v, "expected keys (%s)", strings.Join(known, ", "))
	}
	out := map[string]value{}
	for _, p := range pairs {
		at := p.Key.GetToken()
		key := strings.ReplaceAll(at.Value, "-", "_")
		if err := spec.OneOf("key of "+v.key, key, known...); err != nil {
			r.fail(at, "%w", err)
			return out
		}
		if _, twice := out[key]; twice {
			r.fail(at, "%s stands twice", key)
			return out
		}
		out[key] = value{key, p.Value}
	}
	return out
}

// list returns the values of a list, or the single value that stands in its place.
func (r *reader) list(v value) []value {
	if v.node == nil {
		return nil
	}
	s, ok := v.node.(*ast.SequenceNode)
	if !ok {
		return []value{v}
	}
	out := make([]value, 0, len(s.Values))
	for _, n := range s.Values {
		out = append(out, value{v.key, n})
	}
	return out
}

// text returns a plain value, or false when the key is not there or holds something else.
func (r *reader) text(v value) (string, bool) {
	switch n := v.node.(type) {
	case nil:
		return "", false
	case *ast.NullNode:
		r.wrong(v, "has no value")
	case *ast.StringNode:
		return n.Value, true
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode, *ast.LiteralNode:
		r.wrong(v, "takes one value, not a list or mapping")
	default:
		return n.GetToken().Value, true
	}
	return "", false
}

// take parses a value where the key is there, and tells whether it is.
func take[T any](r *reader, v value, to *T, parse func(string) (T, error)) bool {
	s, ok := r.text(v)
	if !ok {
		return false
	}
	x, err := parse(s)
	if err != nil {
		r.wrong(v, "%w", err)
		return false
	}
	*to = x
	return true
}

// parseName reads a name, which stands in tables, scripts and file names.
func parseName(s string) (string, error) {
	if s == "" || len(s) > 64 {
		return "", fmt.Errorf("%q is not a name of 1 to 64 characters", s)
	}
	for _, c := range s {
		if c <= ' ' || c == 0x7f || strings.ContainsRune(`,:;{}[]"'#*?\`, c) {
			return "", fmt.Errorf("%q is not a name: leave out %q", s, c)
		}
	}
	return s, nil
}

func parseTitle(s string) (string, error) {
	if s == "" || len(s) > 200 || strings.ContainsAny(s, "\n\r") {
		return "", fmt.Errorf("%q is not a name of one line", s)
	}
	return s, nil
}

func parsePattern(s string) (string, error) {
	if _, err := path.Match(s, ""); err != nil || s == "" {
		return "", fmt.Errorf("%q is not a pattern of host names such as h1*", s)
	}
	return s, nil
}

// parseBound reads a factor of at least 1.
func parseBound(s string) (float64, error) {
	x, err := parseFactor(s)
	if err == nil && x < 1 {
		err = fmt.Errorf("%s is below 1", s)
	}
	return x, err
}

// parseMessageTime reads the processor time of a message.
func parseMessageTime(s string) (time.Duration, error) {
	d, err := parseTime(s)
	if err == nil && d > time.Minute {
		err = fmt.Errorf("%s is over 1m", s)
	}
	return d, err
}
