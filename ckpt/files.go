package ckpt

import (
	"fmt"
	"regexp"
	"strconv"
)

// A checkpoint's tensors are in files of two kinds. One worker's are model.safetensors and state.safetensors; of k workers
// each has model-00001-of-0000k.safetensors, as other tools name the parts of a model, and state- likewise. A large
// tensor of the state has a file of its own, which has .001, .002 and so on before its last suffix. So has each Stream, in files
// that are not safetensors.
const (
	modelKind  = "model"
	stateKind  = "state"
	streamKind = "stream"

	maxParts = 10000
	maxOwn   = 999
)

// IndexFile says which file each tensor of a model in several files is in. Covey does not read it; other tools do.
const IndexFile = "model.safetensors.index.json"

type fileName struct {
	kind     string
	part, of int // from 1
	own      int // of a tensor's own file, from 1
}

func (f fileName) String() string {
	s := f.kind
	if f.of > 1 {
		s += fmt.Sprintf("-%05d-of-%05d", f.part, f.of)
	}
	if f.own > 0 {
		s += fmt.Sprintf(".%03d", f.own)
	}
	if f.kind == streamKind {
		return s + ".bin"
	}
	return s + ".safetensors"
}

var filePattern = regexp.MustCompile(`^(model|state|stream)(?:-(\d{5})-of-(\d{5}))?(?:\.(\d{3}))?\.(?:safetensors|bin)$`)

// parseFile reads what String writes, and nothing else.
func parseFile(name string) (fileName, bool) {
	g := filePattern.FindStringSubmatch(name)
	if g == nil {
		return fileName{}, false
	}
	f := fileName{kind: g[1], part: 1, of: 1}
	if g[2] != "" {
		f.part, _ = strconv.Atoi(g[2]) // the pattern has digits there
		f.of, _ = strconv.Atoi(g[3])
	}
	if g[4] != "" {
		f.own, _ = strconv.Atoi(g[4])
	}
	return f, f.part >= 1 && f.part <= f.of && f.of <= maxParts && f.String() == name
}

// checkFiles holds a manifest's files to the names that a checkpoint has, all parts of them.
func (m *Manifest) checkFiles() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("files must be %s and %s, or all the parts of them: %s", ModelFile, StateFile, fmt.Sprintf(format, args...))
	}
	have := map[string]int{}
	of := 0
	for name, info := range m.Files {
		f, ok := parseFile(name)
		switch {
		case info.Size < 0:
			return wrong("%s has %d bytes", name, info.Size)
		case name == IndexFile && m.Version >= VersionParts:
			continue
		case !ok || f.own > 0 && f.kind == modelKind || f.own == 0 && f.kind == streamKind || f.kind == streamKind && m.Version < VersionStreams:
			return wrong("%.100q is not one of them", name)
		case of != 0 && of != f.of:
			return wrong("%s is not one of %d", name, of)
		}
		of = f.of
		if f.own == 0 {
			have[f.kind]++
		}
	}
	for _, kind := range []string{modelKind, stateKind} {
		if of == 0 || have[kind] != of {
			return wrong("there are %d of the %s, expected %d", have[kind], kind, max(of, 1))
		}
	}
	if m.Version < VersionParts && len(m.Files) != 2 {
		return wrong("version %d has no others", m.Version)
	}
	return nil
}
