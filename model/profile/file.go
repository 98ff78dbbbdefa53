package profile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"

	"github.com/covey-ml/covey/spec"
)

// Bounds of a file. A hollow world has one vector of parameters, which all workers share.
const (
	maxFile       = 1 << 20
	maxNest       = 16
	maxSegments   = 20_000
	maxDims       = 8
	maxParameters = 1 << 32
	maxFLOPs      = 1e16 // a sample, of all segments, both ways
)

// entry is one segment of a file.
type entry struct {
	Name       string   `yaml:"name"`
	Parameters int64    `yaml:"parameters"`
	Shape      []int64  `yaml:"shape"`
	Forward    float64  `yaml:"forward"`
	Backward   *float64 `yaml:"backward"`
}

type file struct {
	Name     string  `yaml:"name"`
	Segments []entry `yaml:"segments"`
}

// Load reads a profile from a file: see Parse.
func Load(name string) (*Profile, error) {
	st, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if near := spec.NearestPath(name); near != "" {
			return nil, fmt.Errorf("%s: there is no such profile: did you mean %s?", name, near)
		}
		return nil, fmt.Errorf("%s: there is no such profile", name)
	case err != nil:
		return nil, err
	case st.IsDir():
		return nil, fmt.Errorf("%s: is a folder, expected a profile's file", name)
	case st.Size() > maxFile:
		return nil, fmt.Errorf("%s: not a profile: over %d bytes", name, maxFile)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return Parse(name, text)
}

// Parse reads a profile from the text of a file, of which name is the name in errors. It lists segments in the order of the
// forward pass; on the way back the last is final first.
//
//	name: mine
//	segments:
//	  - {name: conv.weight, shape: [64, 3, 7, 7], forward: 236e6}   # FLOPs a sample: two for each multiplication and addition
//	  - {name: fc.weight, parameters: 4096000, forward: 8.2e6, backward: 16.4e6}
//
// A segment has parameters or a shape, which compressors by rows and columns look at. backward is twice forward, unless the
// file says it.
func Parse(name string, text []byte) (*Profile, error) {
	text = []byte(strings.TrimPrefix(string(text), "\ufeff"))
	switch {
	case len(text) > maxFile:
		return nil, fmt.Errorf("%s: not a profile: over %d bytes", name, maxFile)
	case !utf8.Valid(text) || strings.ContainsRune(string(text), 0):
		return nil, fmt.Errorf("%s: not a profile: not text in UTF-8", name)
	}
	if line := tooDeep(lexer.Tokenize(string(text))); line > 0 {
		return nil, fmt.Errorf("%s:%d: nested more than %d deep", name, line, maxNest)
	}
	var f file
	if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
		return nil, placed(name, err)
	}
	switch {
	case len(f.Segments) == 0:
		return nil, fmt.Errorf("%s: no segments: expected a list of {name, parameters or shape, forward}", name)
	case len(f.Segments) > maxSegments:
		return nil, fmt.Errorf("%s: %d segments: expected at most %d", name, len(f.Segments), maxSegments)
	}
	p := &Profile{name: f.Name}
	if p.name == "" {
		p.name = name
	}
	seen := map[string]bool{}
	flops := 0.0
	for i, e := range f.Segments {
		shape, err := e.check(seen)
		if err != nil {
			return nil, fmt.Errorf("%s: segment %d (%q): %w", name, i+1, e.Name, err)
		}
		p.layout = p.layout.Add(e.Name, shape...)
		if int64(p.layout.Len()) > maxParameters {
			return nil, fmt.Errorf("%s: segment %d (%q): over %d parameters in all", name, i+1, e.Name, int64(maxParameters))
		}
		back := 2 * e.Forward
		if e.Backward != nil {
			back = *e.Backward
		}
		if flops += e.Forward + back; flops > maxFLOPs {
			return nil, fmt.Errorf("%s: segment %d (%q): over %g FLOPs a sample in all", name, i+1, e.Name, float64(maxFLOPs))
		}
		p.ahead += int64(e.Forward)
		p.back = append(p.back, int64(back))
	}
	return p, nil
}

// check returns the segment's shape.
func (e *entry) check(seen map[string]bool) ([]int, error) {
	switch {
	case e.Name == "":
		return nil, errors.New("has no name")
	case seen[e.Name]:
		return nil, errors.New("the name stands twice")
	case (e.Parameters == 0) == (len(e.Shape) == 0):
		return nil, errors.New("expected either parameters or a shape")
	case len(e.Shape) > maxDims:
		return nil, fmt.Errorf("shape: %d numbers: expected at most %d", len(e.Shape), maxDims)
	case !(e.Forward >= 0 && e.Forward <= maxFLOPs):
		return nil, fmt.Errorf("forward: %v FLOPs a sample: expected 0 to %g", e.Forward, float64(maxFLOPs))
	case e.Backward != nil && !(*e.Backward >= 0 && *e.Backward <= maxFLOPs):
		return nil, fmt.Errorf("backward: %v FLOPs a sample: expected 0 to %g", *e.Backward, float64(maxFLOPs))
	}
	seen[e.Name] = true
	dims := e.Shape
	if len(dims) == 0 {
		dims = []int64{e.Parameters}
	}
	left := int64(maxParameters)
	shape := make([]int, len(dims))
	for i, d := range dims {
		if d < 1 || d > left {
			return nil, fmt.Errorf("%d: expected 1 to %d parameters", d, int64(maxParameters))
		}
		left /= d
		shape[i] = int(d)
	}
	return shape, nil
}

// tooDeep returns the line of the first token that is nested too deep for a parser that recurses, 0 when none is.
func tooDeep(tokens token.Tokens) int {
	flow, dashes, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position != nil && t.Position.Line != line {
			dashes, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			dashes++
		}
		if flow > maxNest || dashes > maxNest {
			return max(line, 1)
		}
	}
	return 0
}

// placed says at which line an error of the YAML package is, and of an unknown key which one was meant.
func placed(name string, err error) error {
	var y yaml.Error
	if !errors.As(err, &y) {
		return fmt.Errorf("%s: %w", name, err)
	}
	where := name
	if t := y.GetToken(); t != nil && t.Position != nil {
		where = fmt.Sprintf("%s:%d", name, t.Position.Line)
	}
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) && unknown.Token != nil {
		if err := spec.OneOf("key", unknown.Token.Value, "name", "segments", "parameters", "shape", "forward", "backward"); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	return fmt.Errorf("%s: %s", where, y.GetMessage())
}
