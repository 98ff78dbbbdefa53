//go:build gs || azblob

package ckpt

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"gocloud.dev/blob"
)

// cloud is an object store behind gocloud.dev/blob.
type cloud struct {
	flat
	b *blob.Bucket
	c cloudConfig

	mu  sync.Mutex
	md5 map[string][]byte // by SHA-256 of what this process sent
}

// cloudConfig is how stores differ.
type cloudConfig struct {
	absent func(error) bool // an error says that there is no such object, and not that it may not be seen
	sums   bool             // the MD5 that the store tells is of what it holds, and not of what it was told
	copies bool             // it copies an object without leaving anybody waiting for longer than a request takes
	hint   string           // where its credentials come from
}

func newCloud(b *blob.Bucket, c cloudConfig) *cloud {
	return &cloud{b: b, c: c, md5: map[string][]byte{}}
}

var (
	_ fsys    = (*cloud)(nil)
	_ checker = (*cloud)(nil)
)

func (c *cloud) fail(doing, name string, err error) error {
	if c.c.absent(err) {
		return &fs.PathError{Op: doing, Path: key(name), Err: fs.ErrNotExist}
	}
	return fmt.Errorf("%s %s: %w (%s)", doing, key(name), err, c.c.hint)
}

// each lists what begins with prefix, with a delimiter only as far as that. f returns io.EOF to end.
func (c *cloud) each(prefix, delimiter string, f func(*blob.ListObject) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	it := c.b.List(&blob.ListOptions{Prefix: prefix, Delimiter: delimiter})
	for {
		o, err := it.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return c.fail("list", prefix, err)
		}
		if err := f(o); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// Exists asks for lists: of a single object some stores do not tell whether it is absent or may not be seen.
func (c *cloud) Exists(name string) (there bool, err error) {
	err = c.each(key(name), "/", func(o *blob.ListObject) error { // the name itself is the first of those that begin with it
		there = o.Key == key(name)
		return io.EOF
	})
	if there || err != nil {
		return there, err
	}
	err = c.each(folderKey(name), "", func(*blob.ListObject) error {
		there = true
		return io.EOF
	})
	return there, err
}

func (c *cloud) List(dir string) ([]string, error) {
	prefix := folderKey(dir)
	var out []string
	err := c.each(prefix, "/", func(o *blob.ListObject) error {
		if name := strings.TrimSuffix(strings.TrimPrefix(o.Key, prefix), "/"); name != "" {
			out = append(out, name)
		}
		return nil
	})
	slices.Sort(out)
	return slices.Compact(out), err
}

func (c *cloud) RemoveAll(name string) error {
	keys := []string{key(name)}
	if err := c.each(folderKey(name), "", func(o *blob.ListObject) error { keys = append(keys, o.Key); return nil }); err != nil {
		return err
	}
	manifestFirst(keys, name)
	for _, k := range keys {
		if err := c.b.Delete(context.Background(), k); err != nil && !c.c.absent(err) {
			return c.fail("remove", k, err)
		}
	}
	return nil
}

// Link has the store copy the object: nothing is sent, and each checkpoint has its own.
func (c *cloud) Link(from, to string) error {
	if !c.c.copies {
		return errors.ErrUnsupported
	}
	if err := c.b.Copy(context.Background(), key(to), key(from), nil); err != nil {
		return c.fail("copy", from, err)
	}
	return nil
}

// Check compares size and MD5, where the store computes that and this process sent the object; else it tells nothing.
func (c *cloud) Check(name string, want FileInfo) error {
	if !c.c.sums {
		return errCannotCheck
	}
	a, err := c.b.Attributes(context.Background(), key(name))
	if err != nil {
		return c.fail("open", name, err)
	}
	if a.Size != want.Size {
		return want.holds(filepath.Base(name), a.Size, nil)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if sum := c.md5[want.SHA256]; sum == nil || !bytes.Equal(sum, a.MD5) {
		return errCannotCheck
	}
	return nil
}

func (c *cloud) Create(name string, want FileInfo) (file, error) {
	ctx, cancel := context.WithCancel(context.Background())
	w, err := c.b.NewWriter(ctx, key(name), &blob.WriterOptions{ContentType: "application/octet-stream", MaxConcurrency: 1,
		BufferSize: int(min(want.Size+1, partSize))})
	if err != nil {
		cancel()
		return nil, c.fail("begin the upload to", name, err)
	}
	return &cloudFile{c: c, w: w, cancel: cancel, name: name, want: want, sum: md5.New()}, nil
}

// cloudFile sends what is written in parts. The object is there when it is synced.
type cloudFile struct {
	c      *cloud
	w      *blob.Writer
	cancel context.CancelFunc
	name   string
	want   FileInfo
	n      int64
	sum    hash.Hash
	done   bool
}

func (f *cloudFile) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	f.sum.Write(p[:n])
	f.n += int64(n)
	if err != nil {
		return n, f.c.fail("send", f.name, err)
	}
	return n, nil
}

func (f *cloudFile) Sync() error {
	if f.n != f.want.Size {
		return fmt.Errorf("%s: %d bytes were written, %d announced", key(f.name), f.n, f.want.Size)
	}
	f.done = true
	defer f.cancel()
	if err := f.w.Close(); err != nil {
		return f.c.fail("send", f.name, err)
	}
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.c.md5[f.want.SHA256] = f.sum.Sum(nil)
	return nil
}

// Close of what was not synced gives the upload up. What was sent of it the store forgets by itself.
func (f *cloudFile) Close() error {
	if !f.done {
		f.cancel()
		_ = f.w.Close() // says that it was cancelled
	}
	return nil
}

func (c *cloud) Open(name string) (source, error) {
	a, err := c.b.Attributes(context.Background(), key(name))
	if err != nil {
		return nil, c.fail("open", name, err)
	}
	return &object{ranged: c, name: name, version: a.ETag, size: a.Size}, nil
}

func (c *cloud) again(err error) bool { return !c.c.absent(err) }

// fetch does not ask for a version, which gocloud.dev/blob cannot: what is read of two has another hash.
func (c *cloud) fetch(name, _ string, p []byte, off int64) error {
	r, err := c.b.NewRangeReader(context.Background(), key(name), off, int64(len(p)), nil)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.ReadFull(r, p)
	return err
}
