package ckpt

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
)

// The files of a checkpoint folder.
const (
	ModelFile    = "model.safetensors"
	StateFile    = "state.safetensors"
	ManifestFile = "manifest.json"
)

// Format and Version are what a manifest says of itself. A checkpoint in more than the two files that every one had at
// first says VersionParts, and one that has streams VersionStreams, which programs that read less refuse by name.
const (
	Format         = "covey-checkpoint"
	Version        = 1
	VersionParts   = 2
	VersionStreams = 3
)

const maxManifest = 16 << 20 // bytes

// Manifest is what manifest.json says. It holds no time and no path, so that equal runs give equal files.
type Manifest struct {
	Format  string `json:"format"`
	Version int    `json:"version"`

	Step        int    `json:"step"`        // updates made
	Epoch       int    `json:"epoch"`       // passes over the data that have ended
	Seed        uint64 `json:"seed"`        // the job's
	World       int    `json:"world_size"`  // workers that saved it; any number may load it
	Microshards int    `json:"microshards"` // slices of the global batch, fixed for the run

	// WeightsSHA256 is the SHA-256 of the flat vector of parameters, little-endian: equal runs have equal ones.
	// Of a checkpoint that several workers wrote it may be empty.
	WeightsSHA256 string              `json:"weights_sha256"`
	Files         map[string]FileInfo `json:"files"`

	// Extra is anything else worth keeping, such as the sampler's position. Set fills it and Get reads it.
	Extra map[string]json.RawMessage `json:"extra,omitempty"`
}

// FileInfo is the size and hash of a file in the folder.
type FileInfo struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Set keeps v, as JSON, under a key of Extra.
func (m *Manifest) Set(key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("extra %q: %w", key, err)
	}
	if m.Extra == nil {
		m.Extra = map[string]json.RawMessage{}
	}
	m.Extra[key] = b
	return nil
}

// Get reads what Set kept into v, a pointer. A key that is not there, or a field that v does not have, is an error.
func (m *Manifest) Get(key string, v any) error {
	b, ok := m.Extra[key]
	if !ok {
		return fmt.Errorf("extra %q is not in the checkpoint", key)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("extra %q: %w", key, err)
	}
	return nil
}

// sealed is the last line of a manifest: the SHA-256 of all bytes before that line, so that a flipped byte anywhere shows.
const sealed = "  \"manifest_sha256\": \""

func (m *Manifest) encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	b = append(bytes.TrimSuffix(b, []byte("\n}")), ",\n"...)
	sum := sha256.Sum256(b)
	b = append(b, sealed...)
	b = append(b, hex.EncodeToString(sum[:])...)
	b = append(b, "\"\n}\n"...)
	if len(b) > maxManifest {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are allowed", ManifestFile, len(b), maxManifest)
	}
	return b, nil
}

func decodeManifest(b []byte) (Manifest, error) {
	const tail = "\"\n}\n"
	i := bytes.LastIndex(b, []byte(sealed))
	if i < 0 || len(b) != i+len(sealed)+2*sha256.Size+len(tail) || string(b[len(b)-len(tail):]) != tail {
		return Manifest{}, fmt.Errorf("%s: does not end with its own hash: cut off, edited or not a manifest", ManifestFile)
	}
	sum := sha256.Sum256(b[:i])
	if got, want := hex.EncodeToString(sum[:]), string(b[i+len(sealed):len(b)-len(tail)]); got != want {
		return Manifest{}, hashError(ManifestFile, got, want)
	}
	var m struct {
		Manifest
		Own string `json:"manifest_sha256"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	switch {
	case m.Format != Format:
		return Manifest{}, fmt.Errorf("%s: format is %q, expected %q", ManifestFile, m.Format, Format)
	case m.Version < Version || m.Version > VersionStreams:
		return Manifest{}, fmt.Errorf("%s: version is %d, this program reads %d to %d", ManifestFile, m.Version, Version, VersionStreams)
	}
	if err := m.check(); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	if err := m.checkFiles(); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	for k, v := range m.Extra { // indented for people on disk
		var c bytes.Buffer
		if err := json.Compact(&c, v); err != nil {
			return Manifest{}, fmt.Errorf("%s: extra %q: %w", ManifestFile, k, err)
		}
		m.Extra[k] = c.Bytes()
	}
	return m.Manifest, nil
}

// check reports the first thing that a manifest to be saved must not hold.
func (m *Manifest) check() error {
	for _, n := range []struct {
		name string
		n    int
	}{{"step", m.Step}, {"epoch", m.Epoch}, {"world size", m.World}, {"microshards", m.Microshards}} {
		if n.n < 0 {
			return fmt.Errorf("checkpoint: %s is %d", n.name, n.n)
		}
	}
	return nil
}

// WeightsHash is the SHA-256, in hexadecimal, of the tensors' bytes in order. For the parameters of a model in the
// order of its layout it is the weights_sha256 that reports and manifests show.
func WeightsHash(params []Tensor) string {
	h := sha256.New()
	for _, t := range params {
		h.Write(t.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func hashError(name, got, want string) error {
	return fmt.Errorf("%s: SHA-256 is %s, expected %s: the file has changed since it was saved", name, got, want)
}

// holds reports that a file is not the one that was saved.
func (f FileInfo) holds(name string, size int64, sum []byte) error {
	if size != f.Size {
		return fmt.Errorf("%s: %d bytes, expected %d: the file has changed since it was saved", name, size, f.Size)
	}
	if got := hex.EncodeToString(sum); got != f.SHA256 {
		return hashError(name, got, f.SHA256)
	}
	return nil
}

// readAll reads a whole file of at most most bytes.
func readAll(fs fsys, path string, most int64) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Size() > most {
		return nil, fmt.Errorf("%s: %d bytes, expected at most %d", filepath.Base(path), f.Size(), most)
	}
	b := make([]byte, f.Size())
	if n, err := f.ReadAt(b, 0); n < len(b) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return b, nil
}
