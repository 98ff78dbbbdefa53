package ckpt

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// Checkpoint is all that a run needs to go on. Save fills Format, Version, WeightsSHA256 and Files itself.
type Checkpoint struct {
	Manifest
	Model []Tensor // the parameters, F32, in the order of the model's layout: together the flat vector
	State []Tensor // all else: moments, residuals, positions
}

// On a disk a folder is written as NAME.covey-tmp. When a checkpoint of that name is there already it steps aside as
// NAME.covey-old until the new one has its name. So at any moment one of NAME and NAME.covey-old is whole, and NAME, when
// it is there, is the one that counts.
//
// An object store renames nothing: there a folder is written under its own name, and is a checkpoint from the moment on
// that its manifest, written last, is there. When a checkpoint of that name is there already, the new one is NAME.2, or
// the next free number, and the older goes when the new one is whole.
const (
	tmpSuffix = ".covey-tmp"
	oldSuffix = ".covey-old"
)

// Save writes a checkpoint folder: model.safetensors, state.safetensors and manifest.json. It is whole under its own
// name, read back and durable when Save returns nil. After an error, or when the process or the machine dies meanwhile,
// the checkpoint that dir held before is still there and Load takes no half one for whole; what is left over beside dir
// goes at the next Save. One Save at a time in one parent folder. A file that the newest checkpoint beside dir has
// already, bit for bit, is not written again.
func Save(dir string, c Checkpoint) error {
	return on(dir, func(p place) error { return save(p.fs, p.name, c) })
}

// Load reads a checkpoint folder and holds every file to the manifest's sizes and hashes. The error names the file
// that is missing or differs. WeightsSHA256 is there whoever wrote it. To use the tensors, hand State to Stateful.Load and Model to Restore, which refuse those
// of another model.
func Load(dir string) (c Checkpoint, err error) {
	err = on(dir, func(p place) (err error) { c, err = load(p.fs, p.name); return err })
	return c, err
}

// Verify holds a checkpoint folder to its manifest as Load does, keeping none of its tensors. Of an object store that
// says what it holds it takes the word.
func Verify(dir string) (m Manifest, err error) {
	err = on(dir, func(p place) (err error) { m, err = verify(p.fs, p.name); return err })
	return m, err
}

func save(fs fsys, dir string, c Checkpoint) error {
	_, err := saveCounted(fs, dir, c)
	return err
}

func saveCounted(fs fsys, dir string, c Checkpoint) (Written, error) {
	w, err := saveOnly(fs, filepath.Clean(dir), c)
	if err != nil {
		return w, fmt.Errorf("saving checkpoint %s: %w", dir, err)
	}
	return w, nil
}

func saveOnly(fs fsys, dir string, c Checkpoint) (Written, error) {
	if err := c.valid(); err != nil {
		return Written{}, err
	}
	d, err := begin(fs, dir)
	if err != nil {
		return Written{}, err
	}
	w, err := d.write(fs, Part{Model: c.Model, State: c.State})
	if err == nil {
		m := c.Manifest
		m.WeightsSHA256 = WeightsHash(c.Model)
		err = d.commit(fs, m, w)
	}
	if err != nil {
		return w, errors.Join(err, d.abandon(fs))
	}
	return w, nil
}

// valid reports the first thing that no checkpoint may hold.
func (c *Checkpoint) valid() error {
	if err := c.check(); err != nil {
		return err
	}
	return allF32(c.Model)
}

func allF32(model []Tensor) error {
	for _, t := range model {
		if t.Type != F32 {
			return fmt.Errorf("model tensor %q is %s, expected %s", t.Name, t.Type, F32)
		}
	}
	return nil
}

// content is a file before it is written.
type content struct {
	name  string
	parts [][]byte
	write Stream // in place of parts
	info  FileInfo
}

func contentOf(name string, parts ...[]byte) content {
	c := content{name: name, parts: parts}
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
		c.info.Size += int64(len(p))
	}
	c.info.SHA256 = hex.EncodeToString(h.Sum(nil))
	return c
}

// contentOfStream calls write to know what there will be.
func contentOfStream(name string, write Stream) (content, error) {
	h := sha256.New()
	var n counter
	if err := write(io.MultiWriter(h, &n)); err != nil {
		return content{}, fmt.Errorf("%s: %w", name, err)
	}
	return content{name: name, write: write, info: FileInfo{Size: int64(n), SHA256: hex.EncodeToString(h.Sum(nil))}}, nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// writeTo writes all of it.
func (c content) writeTo(w io.Writer) error {
	if c.write != nil {
		b := bufio.NewWriterSize(w, 1<<20)
		if err := c.write(b); err != nil {
			return err
		}
		return b.Flush()
	}
	for _, p := range c.parts {
		for len(p) > 0 {
			n := min(len(p), 1<<20)
			if _, err := w.Write(p[:n]); err != nil {
				return err
			}
			p = p[n:]
		}
	}
	return nil
}

// create writes one file, makes it durable and reads it back.
func create(fs fsys, dir string, c content) error {
	path := filepath.Join(dir, c.name)
	f, err := fs.Create(path, c.info)
	if err != nil {
		return err
	}
	if err = c.writeTo(f); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	if err := check(fs, path, c.name, c.info); err != nil {
		return fmt.Errorf("read back after writing: %w", err)
	}
	return nil
}

// check asks the store, or reads the file, for whether it holds what it should.
func check(fs fsys, path, name string, want FileInfo) error {
	if c, ok := fs.(checker); ok {
		err := c.Check(path, want)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errCannotCheck) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	f, err := fs.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if f.Size() == want.Size { // else it differs already
		buf := make([]byte, min(max(want.Size, 1), 4<<20))
		if _, err := io.CopyBuffer(h, io.NewSectionReader(f, 0, f.Size()), buf); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return want.holds(name, f.Size(), h.Sum(nil))
}

// makeParent makes the folder that holds checkpoints, durably.
func makeParent(fs fsys, parent string) error {
	if fs.Objects() {
		return nil
	}
	there, err := fs.Exists(parent)
	if err != nil || there {
		return err
	}
	if err := fs.MkdirAll(parent); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(parent))
}

// tidy settles what an earlier Save or Prune left in parent: a checkpoint that had stepped aside gets its name back when
// no other took it, and what never became one goes.
func tidy(fs fsys, parent string) error {
	names, err := fs.List(parent)
	if err != nil {
		return err
	}
	if fs.Objects() {
		return tidyObjects(fs, parent, names)
	}
	changed := false
	for _, name := range names {
		path := filepath.Join(parent, name)
		base, aside := strings.CutSuffix(path, oldSuffix)
		if !aside && !strings.HasSuffix(name, tmpSuffix) {
			continue
		}
		taken := true
		if aside {
			if taken, err = fs.Exists(base); err != nil {
				return err
			}
		}
		if taken {
			err = fs.RemoveAll(path)
		} else {
			err = fs.Rename(path, base)
		}
		if err != nil {
			return err
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return fs.SyncDir(parent)
}

// tidyObjects takes away folders of steps that have no manifest, and of several of one step, older ones than a sound one.
func tidyObjects(fs fsys, parent string, names []string) error {
	if s, ok := fs.(sweeper); ok {
		if err := s.Sweep(parent); err != nil {
			return err
		}
	}
	newest := map[int]int{} // by step, the number of its newest sound folder
	for _, name := range names {
		step, number, ok := stepName(fs, name)
		if !ok {
			continue
		}
		whole, err := fs.Exists(filepath.Join(parent, name, ManifestFile))
		switch {
		case err != nil:
			return err
		case !whole:
			if err := fs.RemoveAll(filepath.Join(parent, name)); err != nil {
				return err
			}
		case number > 1 && sound(fs, filepath.Join(parent, name)):
			newest[step] = max(newest[step], number)
		}
	}
	for _, name := range names {
		if step, number, ok := stepName(fs, name); ok && number < newest[step] {
			if err := fs.RemoveAll(filepath.Join(parent, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepOnly takes away the files of a folder that its manifest does not name: an earlier attempt's.
func keepOnly(fs fsys, dir string, files map[string]FileInfo) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := files[name]; ok || name == ManifestFile {
			continue
		}
		if err := fs.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// sortedFiles lists a manifest's files of one kind in the order of their parts.
func (m *Manifest) sortedFiles(kind string) []string {
	var out []string
	for name := range m.Files {
		if f, ok := parseFile(name); ok && f.kind == kind {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
