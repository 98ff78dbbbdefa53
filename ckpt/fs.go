package ckpt

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// fsys is what a checkpoint folder needs of a file system. Tests bring one that fails or loses power at a chosen point.
type fsys interface {
	MkdirAll(dir string) error
	Create(name string) (file, error)
	Open(name string) (source, error)
	Rename(from, to string) error
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

type source interface {
	io.ReaderAt
	Size() int64
	Close() error
}

// disk is the machine's file system.
type disk struct{}

func (disk) MkdirAll(dir string) error        { return os.MkdirAll(dir, 0o777) }
func (disk) Create(name string) (file, error) { return os.Create(name) }
func (disk) Rename(from, to string) error     { return os.Rename(from, to) }
func (disk) RemoveAll(name string) error      { return os.RemoveAll(name) }
func (disk) Exists(name string) (bool, error) { return exists(os.Lstat(name)) }
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
	return opened{f, info.Size()}, nil
}

type opened struct {
	*os.File
	size int64
}

func (o opened) Size() int64 { return o.size }
