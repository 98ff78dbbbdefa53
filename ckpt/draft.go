package ckpt

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
)

// A Draft is a checkpoint that several workers write together. One of them calls Begin and tells the others, all Write
// a part each, and when all have, the first gathers what they wrote and calls Commit, which makes it a checkpoint.
// Draft, and Written, are plain data: JSON carries them from worker to worker. All must reach the same folder or store, which
// Reach tells.
type Draft struct {
	ID   string `json:"id"`             // which no other draft has
	Dir  string `json:"dir"`            // the checkpoint that it becomes
	Work string `json:"work"`           // where its files are until then
	Base string `json:"base,omitempty"` // a checkpoint whose files need not be written again

	fence func() error // see WriterConfig; nil: none
}

// Part is what one of several workers writes: part Index, from 0, of Of. The parts' tensors, one part after the other,
// are the checkpoint's; Cut makes them. The zero Index and Of are of a worker that writes all.
type Part struct {
	Index, Of    int
	Model, State []Tensor
	Streams      []Stream
}

// Stream writes a file of a checkpoint that is no tensors and is never held in memory. It is called more than once, and writes the same
// bytes each time; a Writer calls it behind its caller's back. ReadStreams reads what it wrote.
type Stream func(w io.Writer) error

// Written is what became of a part.
type Written struct {
	Index int                 `json:"index"`
	Files map[string]FileInfo `json:"files"`
	Model []string            `json:"model,omitempty"` // the names of the model's tensors in it
	Cut   bool                `json:"cut,omitempty"`   // whether one of these is a Piece
	Sent  int64               `json:"sent"`            // bytes written
	Kept  int64               `json:"kept"`            // bytes that an earlier checkpoint had already
}

// ownFile is the size, in bytes, from which on it pays not to write again what has not changed: then a tensor of the
// state has a file of its own, and a file is taken over from the checkpoint before. On a disk the two checkpoints share it,
// and damage to it, so that smaller ones are written. Tests make it smaller.
var ownFile = 16 << 20

// Begin starts the checkpoint dir, and takes away what an earlier one that was never whole left beside it.
func Begin(dir string) (Draft, error) { return beginBehind(nil, dir) }

func beginBehind(fence func() error, dir string) (d Draft, err error) {
	if !Remote(dir) { // other workers may be in another folder
		if dir, err = filepath.Abs(dir); err != nil {
			return Draft{}, err
		}
	}
	err = on(dir, func(p place) error {
		p.fs = behind(p.fs, fence)
		in, err := begin(p.fs, p.name)
		if err != nil {
			return err
		}
		d = Draft{fence: fence, ID: rand.Text(), Dir: p.path(in.Dir), Work: p.path(in.Work)}
		if in.Base != "" {
			d.Base = p.path(in.Base)
		}
		if err := create(p.fs, in.Work, contentOf(markFile, []byte(d.ID))); err != nil {
			return errors.Join(err, in.abandon(p.fs))
		}
		return nil
	})
	if err != nil {
		return Draft{}, fmt.Errorf("saving checkpoint %s: %w", dir, err)
	}
	return d, nil
}

// Write writes a part, and has read it back when it returns.
func (d Draft) Write(part Part) (w Written, err error) {
	err = d.on(func(p place, in Draft) (err error) { w, err = in.write(p.fs, part); return err })
	return w, err
}

// Reach tells whether worker i sees the draft and may write in it: a folder of the same name on another machine is not it.
func (d Draft) Reach(i int) error {
	if err := d.current(); err != nil {
		return err
	}
	return d.on(func(p place, in Draft) error {
		return create(p.fs, in.Work, contentOf(fmt.Sprintf("reached-%05d", i+1), nil))
	})
}

// current tells whether the draft is there, and no other in its place.
func (d Draft) current() error {
	return d.on(func(p place, in Draft) error {
		b, err := readAll(p.fs, filepath.Join(in.Work, markFile), 100)
		if err == nil && string(b) != d.ID {
			err = fmt.Errorf("%s is another worker's: all must write in one folder or store", d.Work)
		}
		return err
	})
}

// Commit makes the checkpoint whole, once all that the workers tell is there. m is its manifest but for the files; what it says of WeightsSHA256 is the hash of
// the whole flat vector, or empty when no one worker has that.
func (d Draft) Commit(m Manifest, all ...Written) error {
	return d.on(func(p place, in Draft) error { return in.commit(p.fs, m, all...) })
}

// Abandon takes away what was written. No one may be writing still.
func (d Draft) Abandon() error {
	return d.on(func(p place, in Draft) error { return in.abandon(p.fs) })
}

// on calls f with the draft's names on its file system.
func (d Draft) on(f func(place, Draft) error) error {
	err := on(d.Dir, func(p place) error {
		p.fs = behind(p.fs, d.fence)
		in := Draft{Dir: p.name}
		var err error
		if in.Work, err = p.in(d.Work); err != nil {
			return err
		}
		if d.Base != "" {
			if in.Base, err = p.in(d.Base); err != nil {
				return err
			}
		}
		return f(p, in)
	})
	if err != nil {
		return fmt.Errorf("saving checkpoint %s: %w", d.Dir, err)
	}
	return nil
}

func begin(fs fsys, dir string) (Draft, error) {
	dir = filepath.Clean(dir)
	parent := filepath.Dir(dir)
	if err := makeParent(fs, parent); err != nil {
		return Draft{}, err
	}
	if err := tidy(fs, parent); err != nil {
		return Draft{}, err
	}
	d := Draft{Dir: dir, Work: dir + tmpSuffix, Base: newest(fs, parent)}
	if !fs.Objects() {
		if err := fs.MkdirAll(d.Work); err != nil {
			return Draft{}, errors.Join(err, fs.RemoveAll(d.Work))
		}
		return d, nil
	}
	// The first number above those that are checkpoints.
	names, err := fs.List(parent)
	if err != nil {
		return Draft{}, err
	}
	highest := 0
	for _, name := range names {
		base, number := numbered(name)
		if base != filepath.Base(dir) {
			continue
		}
		whole, err := fs.Exists(filepath.Join(parent, name, ManifestFile))
		if err != nil {
			return Draft{}, err
		}
		if whole {
			highest = max(highest, number)
		}
	}
	d.Work = withNumber(dir, highest+1)
	return d, nil
}

// newest is the newest checkpoint in a folder whose manifest can be read, "" when there is none. It only saves work, so
// that an error is no reason to stop.
func newest(fs fsys, parent string) string {
	all, err := list(fs, parent)
	if err != nil {
		return ""
	}
	for _, e := range slices.Backward(all) {
		if _, _, err := readManifest(fs, e.Path); err == nil {
			return e.Path
		}
	}
	return ""
}

// contents lists the files of a part.
func (p Part) contents() ([]content, error) {
	if p.Of < 0 || p.Of > maxParts || p.Index < 0 || p.Index >= max(p.Of, 1) {
		return nil, fmt.Errorf("part %d of %d: expected 0 to %d of at most %d", p.Index, p.Of, max(p.Of, 1)-1, maxParts)
	}
	if err := allF32(p.Model); err != nil {
		return nil, err
	}
	name := fileName{part: p.Index + 1, of: max(p.Of, 1)}
	var out []content
	add := func(kind string, own int, ts []Tensor) error {
		name.kind, name.own = kind, own
		parts, err := encode(ts, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, contentOf(name.String(), parts...))
		return nil
	}
	if err := add(modelKind, 0, p.Model); err != nil {
		return nil, err
	}
	var rest []Tensor
	own := 0
	for _, t := range p.State {
		if len(t.Data) < ownFile || own == maxOwn {
			rest = append(rest, t)
			continue
		}
		own++
		if err := add(stateKind, own, []Tensor{t}); err != nil {
			return nil, err
		}
	}
	if err := add(stateKind, 0, rest); err != nil {
		return nil, err
	}
	if len(p.Streams) > maxOwn {
		return nil, fmt.Errorf("%d streams in a part, expected at most %d", len(p.Streams), maxOwn)
	}
	for i, write := range p.Streams {
		name.kind, name.own = streamKind, i+1
		c, err := contentOfStream(name.String(), write)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func (d Draft) write(fs fsys, p Part) (w Written, err error) {
	files, err := p.contents()
	if err != nil {
		return w, err
	}
	at, had := "", Manifest{}
	if d.Base != "" {
		if at, had, err = readManifest(fs, d.Base); err != nil {
			had = Manifest{} // then all is written
		}
	}
	w = Written{Index: p.Index, Files: map[string]FileInfo{}}
	for _, t := range p.Model {
		w.Model = append(w.Model, t.Name)
		w.Cut = w.Cut || t.Piece != nil
	}
	for _, c := range files {
		w.Files[c.name] = c.info
		if from := had.holding(c); from != "" && c.info.Size >= int64(ownFile) {
			path := filepath.Join(d.Work, c.name)
			// A file that cannot be taken over, or does not read back as it should, is written.
			if fs.Link(filepath.Join(at, from), path) == nil && check(fs, path, c.name, c.info) == nil {
				w.Kept += c.info.Size
				continue
			}
		}
		if err := create(fs, d.Work, c); err != nil {
			return w, err
		}
		w.Sent += c.info.Size
	}
	return w, fs.SyncDir(d.Work)
}

// holding names the file that has the content: the one of the same name, when it has.
func (m *Manifest) holding(c content) string {
	if m.Files[c.name] == c.info {
		return c.name
	}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		if m.Files[name] == c.info {
			return name
		}
	}
	return ""
}

func (d Draft) commit(fs fsys, m Manifest, all ...Written) error {
	m.Format, m.Version, m.Files = Format, Version, map[string]FileInfo{}
	for _, w := range all {
		for name, info := range w.Files {
			if _, twice := m.Files[name]; twice {
				return fmt.Errorf("%s was written by two workers", name)
			}
			m.Files[name] = info
		}
	}
	if len(m.Files) > 2 || len(all) > 1 {
		m.Version = VersionParts
	}
	if len(m.sortedFiles(streamKind)) > 0 {
		m.Version = VersionStreams
	}
	if err := m.check(); err != nil {
		return err
	}
	if err := m.checkFiles(); err != nil {
		return err
	}
	if len(all) > 1 { // others may have written elsewhere
		if err := present(fs, d.Work, m.Files); err != nil {
			return err
		}
	}
	if index, err := modelIndex(all); err != nil {
		return err
	} else if index != nil {
		c := contentOf(IndexFile, index)
		if err := create(fs, d.Work, c); err != nil {
			return err
		}
		m.Files[IndexFile] = c.info
	}
	if !fs.Objects() {
		if err := keepOnly(fs, d.Work, m.Files); err != nil {
			return err
		}
	}
	b, err := m.encode()
	if err != nil {
		return err
	}
	if err := create(fs, d.Work, contentOf(ManifestFile, b)); err != nil {
		return err
	}
	if fs.Objects() {
		// It counts from here on. What else is there is of no use to anyone, and what stays behind, the next tidy takes.
		_ = keepOnly(fs, d.Work, m.Files)
		_ = tidy(fs, filepath.Dir(d.Dir))
		return nil
	}
	if err := fs.SyncDir(d.Work); err != nil {
		return err
	}
	return d.rename(fs)
}

// rename gives the folder its name.
func (d Draft) rename(fs fsys) error {
	old := d.Dir + oldSuffix
	had, err := fs.Exists(d.Dir)
	if err != nil {
		return err
	}
	if had {
		if err := fs.Rename(d.Dir, old); err != nil {
			return err
		}
	}
	if err := fs.Rename(d.Work, d.Dir); err != nil {
		if had {
			err = errors.Join(err, fs.Rename(old, d.Dir))
		}
		return err
	}
	if err := fs.SyncDir(filepath.Dir(d.Dir)); err != nil {
		return err
	}
	if had {
		_ = fs.RemoveAll(old) // the new one is in place and durable: what stays behind, the next tidy takes
	}
	return nil
}

func (d Draft) abandon(fs fsys) error { return fs.RemoveAll(d.Work) }

// modelIndex is the file by which other tools find a model's tensors in several files, nil where there is one file, or
// where a tensor is cut, which they do not know.
func modelIndex(all []Written) ([]byte, error) {
	if len(all) < 2 {
		return nil, nil
	}
	var index struct {
		Metadata struct {
			Size int64 `json:"total_size"`
		} `json:"metadata"`
		Weights map[string]string `json:"weight_map"`
	}
	index.Weights = map[string]string{}
	for _, w := range all {
		if w.Cut {
			return nil, nil
		}
		name := fileName{kind: modelKind, part: w.Index + 1, of: len(all)}.String()
		index.Metadata.Size += w.Files[name].Size
		for _, t := range w.Model {
			index.Weights[t] = name
		}
	}
	b, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", IndexFile, err)
	}
	return append(b, '\n'), nil
}
