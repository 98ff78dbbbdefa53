package ckpt

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// fsys is what a checkpoint folder needs of a file system or an object store. Tests bring one that fails or loses power
// at a chosen point.
type fsys interface {
	// Objects tells that this is an object store: a name appears at once with its whole content, for good, when its file
	// is synced; there are no folders to make or to sync, and nothing is renamed.
	Objects() bool
	MkdirAll(dir string) error
	// Create makes a file that is about to get this content. Closed before it is synced, it is given up.
	Create(name string, want FileInfo) (file, error)
	// Link gives the new name to the content of from, an existing file, without sending it. Who cannot says so.
	Link(from, to string) error
	Open(name string) (source, error)
	Rename(from, to string) error
	// RemoveAll takes away a file or a folder. In an object store, a folder's manifest goes first.
	RemoveAll(name string) error
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
	// List returns the names in dir, sorted; none when there is no dir.
	List(dir string) ([]string, error)
	Exists(name string) (bool, error)
}

type file interface {
	io.Writer
	Sync() error
	Close() error
}

// checker is a file system that can say, without sending a file back, whether what it holds is what was sent.
type checker interface {
	// Check returns errCannotCheck when only reading the file would tell.
	Check(name string, want FileInfo) error
}

// sweeper is an object store in which an upload that broke off leaves what no list shows.
type sweeper interface {
	Sweep(dir string) error
}

var errCannotCheck = errors.New("the store does not say what it holds")

type source interface {
	io.ReaderAt
	Size() int64
	Close() error
}

// disk is the machine's file system.
type disk struct{}

func (disk) Objects() bool                    { return false }
func (disk) MkdirAll(dir string) error        { return os.MkdirAll(dir, 0o777) }
func (disk) Link(from, to string) error       { return os.Link(from, to) }
func (disk) Rename(from, to string) error     { return os.Rename(from, to) }
func (disk) RemoveAll(name string) error      { return os.RemoveAll(name) }
func (disk) Exists(name string) (bool, error) { return exists(os.Lstat(name)) }

// Create takes away what has the name before: it may be a link to a file of another checkpoint.
func (disk) Create(name string, _ FileInfo) (file, error) {
	if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

type diskFile struct{ *os.File }

// Sync also drops what the system keeps of the file in memory, where it can, so that reading it back asks the disk.
func (f diskFile) Sync() error {
	if err := f.File.Sync(); err != nil {
		return err
	}
	forget(f.File)
	return nil
}

func (disk) List(dir string) (out []string, err error) {
	all, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	for _, e := range all {
		out = append(out, e.Name())
	}
	return out, err
}

func exists(_ os.FileInfo, err error) (bool, error) {
	if os.IsNotExist(err) {
		return false, nil
	}
	return err == nil, err
}

// SyncDir does nothing on Windows, which has no such call: there NTFS journals its names.
func (disk) SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func (disk) Open(name string) (source, error) {
	f, err := os.Open(filepath.Clean(name))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if !info.Mode().IsRegular() {
		f.Close()
		return nil, &os.PathError{Op: "read", Path: name, Err: os.ErrInvalid}
	}
	return openFile{f, info.Size()}, nil
}

type openFile struct {
	*os.File
	size int64
}

func (o openFile) Size() int64 { return o.size }
