package ckpt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// memfs is a file system in memory that can fail or lose power at a chosen operation. It keeps, beside what programs see,
// what a disk would hold if the power went: a file's content as of its last Sync, a folder's names as of its last SyncDir.
type memfs struct {
	root *node
	ops  int // operations that change something, so far

	failAt int   // the operation, from 1, that fails; 0 for none
	dead   bool  // every operation from failAt on fails, as when the process is killed
	fault  error // what it returns
	room   int   // bytes that may still be written; -1 for no limit
	fired  bool  // whether the fault struck

	objects bool // be an object store: see fsys
	noLinks bool
	links   int // made so far
	lieAt   int // the file, from 1, that is not stored as it was written; 0 for none
}

type node struct {
	kids, synced map[string]*node // of a folder: as seen, as on disk
	data, stored []byte           // of a file
}

var (
	errFault = errors.New("injected fault")
	errFull  = errors.New("no space left on device")
)

func newMemFS() *memfs {
	return &memfs{root: folder(), fault: errFault, room: -1}
}

func folder() *node { return &node{kids: map[string]*node{}, synced: map[string]*node{}} }

func (m *memfs) String() string {
	return fmt.Sprintf("fault at operation %d, dead %v, room %d", m.failAt, m.dead, m.room)
}

// strike counts an operation and tells whether it fails.
func (m *memfs) strike() bool {
	m.ops++
	if m.failAt > 0 && (m.ops == m.failAt || m.dead && m.ops > m.failAt) {
		m.fired = true
		return true
	}
	return false
}

// heal ends all faults.
func (m *memfs) heal() { m.failAt, m.dead, m.fired, m.room, m.ops = 0, false, false, -1, 0 }

// powerOff forgets what was not synced.
func (m *memfs) powerOff() { m.root.revert() }

func (n *node) revert() {
	if n.kids == nil {
		n.data = slices.Clone(n.stored)
		return
	}
	n.kids = map[string]*node{}
	for name, kid := range n.synced {
		kid.revert()
		n.kids[name] = kid
	}
}

func (m *memfs) find(name string) (parent *node, base string, n *node) {
	n = m.root
	for _, part := range strings.Split(filepath.ToSlash(filepath.Clean(name)), "/") {
		if n == nil || n.kids == nil {
			return nil, part, nil
		}
		parent, base, n = n, part, n.kids[part]
	}
	return parent, base, n
}

func (m *memfs) MkdirAll(dir string) error {
	if m.objects {
		return nil
	}
	if m.strike() {
		return m.fault
	}
	at := m.root
	for _, part := range strings.Split(filepath.ToSlash(filepath.Clean(dir)), "/") {
		if at.kids[part] == nil {
			at.kids[part] = folder()
		}
		at = at.kids[part]
	}
	return nil
}

func (m *memfs) Objects() bool { return m.objects }

// Link makes another name of the same file.
func (m *memfs) Link(from, to string) error {
	if m.noLinks {
		return errors.ErrUnsupported
	}
	if m.strike() {
		return m.fault
	}
	_, _, n := m.find(from)
	if n == nil || n.kids != nil {
		return os.ErrNotExist
	}
	parent, base := m.holder(to)
	if parent == nil {
		return os.ErrNotExist
	}
	m.links++
	if m.objects { // a copy, which later damage to the first does not touch
		parent.kids[base] = &node{data: slices.Clone(n.data), stored: slices.Clone(n.data)}
		parent.synced[base] = parent.kids[base]
		return nil
	}
	parent.kids[base] = n
	return nil
}

// holder finds the folder that a file is to be in. Among objects it comes into being with the file.
func (m *memfs) holder(name string) (parent *node, base string) {
	at := m.root
	parts := strings.Split(filepath.ToSlash(filepath.Clean(name)), "/")
	for _, part := range parts[:len(parts)-1] {
		if at.kids[part] == nil {
			if !m.objects {
				return nil, ""
			}
			at.kids[part] = folder()
			at.synced[part] = at.kids[part]
		}
		at = at.kids[part]
	}
	return at, parts[len(parts)-1]
}

func (m *memfs) Create(name string, want FileInfo) (file, error) {
	if m.strike() {
		return nil, m.fault
	}
	if m.objects {
		return &memfile{fs: m, n: &node{}, name: name, size: want.Size}, nil
	}
	parent, base := m.holder(name)
	if parent == nil {
		return nil, os.ErrNotExist
	}
	n := &node{} // not the one of that name: it may have others
	parent.kids[base] = n
	return &memfile{fs: m, n: n, name: name, size: want.Size}, nil
}

type memfile struct {
	fs   *memfs
	n    *node
	name string
	size int64
}

// Write that fails has written half.
func (f *memfile) Write(p []byte) (int, error) {
	if f.fs.strike() {
		f.n.data = append(f.n.data, p[:len(p)/2]...)
		return len(p) / 2, f.fs.fault
	}
	if f.fs.room >= 0 {
		if len(p) > f.fs.room {
			n := f.fs.room
			f.n.data = append(f.n.data, p[:n]...)
			f.fs.room, f.fs.fired = 0, true
			return n, errFull
		}
		f.fs.room -= len(p)
	}
	f.n.data = append(f.n.data, p...)
	return len(p), nil
}

func (f *memfile) Sync() error {
	if f.fs.strike() {
		return f.fs.fault
	}
	if int64(len(f.n.data)) != f.size {
		return fmt.Errorf("%s has %d bytes, %d were announced", f.name, len(f.n.data), f.size)
	}
	if f.fs.lieAt > 0 {
		if f.fs.lieAt--; f.fs.lieAt == 0 {
			f.n.data = slices.Clone(f.n.data)
			f.n.data[len(f.n.data)/2] ^= 4
			f.fs.fired = true
		}
	}
	f.n.stored = slices.Clone(f.n.data)
	if f.fs.objects {
		parent, base := f.fs.holder(f.name)
		parent.kids[base], parent.synced[base] = f.n, f.n
	}
	return nil
}

func (f *memfile) Close() error {
	if f.fs.strike() {
		return f.fs.fault
	}
	return nil
}

func (m *memfs) Rename(from, to string) error {
	if m.strike() {
		return m.fault
	}
	if m.objects {
		panic("an object is renamed")
	}
	p, pb, n := m.find(from)
	q, qb, there := m.find(to)
	if n == nil || q == nil {
		return os.ErrNotExist
	}
	if there != nil { // as Windows has it, and POSIX for a folder that is not empty
		return os.ErrExist
	}
	delete(p.kids, pb)
	q.kids[qb] = n
	return nil
}

// RemoveAll takes one name away at a time, each an operation, as the system does.
func (m *memfs) RemoveAll(name string) error {
	parent, base, n := m.find(name)
	if n == nil {
		return nil
	}
	names := make([]string, 0, len(n.kids))
	for k := range n.kids {
		names = append(names, k)
	}
	slices.Sort(names)
	if i := slices.Index(names, ManifestFile); i > 0 {
		names = slices.Insert(slices.Delete(names, i, i+1), 0, ManifestFile)
	}
	for _, k := range names {
		if err := m.RemoveAll(filepath.Join(name, k)); err != nil {
			return err
		}
	}
	if m.strike() {
		return m.fault
	}
	delete(parent.kids, base)
	if m.objects {
		delete(parent.synced, base)
	}
	return nil
}

func (m *memfs) SyncDir(dir string) error {
	if m.objects {
		return nil
	}
	if m.strike() {
		return m.fault
	}
	_, _, n := m.find(dir)
	if dir == "." {
		n = m.root
	}
	if n == nil || n.kids == nil {
		return os.ErrNotExist
	}
	n.synced = map[string]*node{}
	for k, v := range n.kids {
		n.synced[k] = v
	}
	return nil
}

func (m *memfs) List(dir string) ([]string, error) {
	_, _, n := m.find(dir)
	if n == nil {
		return nil, nil
	}
	var out []string
	for k := range n.kids {
		out = append(out, k)
	}
	slices.Sort(out)
	return out, nil
}

func (m *memfs) Exists(name string) (bool, error) {
	_, _, n := m.find(name)
	return n != nil, nil
}

func (m *memfs) Open(name string) (source, error) {
	_, _, n := m.find(name)
	if n == nil || n.kids != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	return memsource{n}, nil
}

type memsource struct{ n *node }

func (s memsource) Size() int64  { return int64(len(s.n.data)) }
func (s memsource) Close() error { return nil }
func (s memsource) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(s.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, s.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

var _ fsys = (*memfs)(nil)
