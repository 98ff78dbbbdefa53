package ckpt

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/covey-ml/covey/spec"
)

// Where a run's or a checkpoint's folder is said as a path of this machine, or as a URL of an object store:
//
//	runs/digits
//	s3://bucket/prefix/digits?region=eu-central-1
//	gs://bucket/prefix/digits
//	azblob://container/prefix/digits?account=name
//
// Every function of this package that takes a folder takes either, and gives back paths of the same kind.

// A driver opens the bucket that a URL names.
type driver func(*url.URL) (fsys, error)

// drivers has those that this binary is built with. A file with a build tag adds its own.
var drivers = map[string]driver{}

// tags names, for each scheme that there is a driver of, the build tag that puts it into the binary.
var tags = map[string]string{"s3": "s3", "gs": "gs", "azblob": "azblob"}

// place is a folder somewhere.
type place struct {
	fs   fsys
	name string
	url  *url.URL // nil on this machine
}

// Remote tells whether a folder's name is a URL of an object store and not a path of this machine.
func Remote(where string) bool {
	scheme, _, ok := strings.Cut(where, "://")
	return ok && !strings.ContainsAny(scheme, `/\`)
}

// CheckPlace tells what is wrong with where checkpoints are to go, without going there.
func CheckPlace(where string) error {
	_, err := locate(where)
	return err
}

// locate reads a path or URL.
func locate(where string) (place, error) {
	if !Remote(where) {
		return place{fs: disk{}, name: where}, nil
	}
	fail := func(err error) (place, error) { return place{}, fmt.Errorf("checkpoints at %s: %w", where, err) }
	u, err := url.Parse(where)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) { // which says the whole URL again
			err = e.Err
		}
		return fail(err)
	}
	open, ok := drivers[u.Scheme]
	if !ok {
		if tag, known := tags[u.Scheme]; known {
			return fail(fmt.Errorf("this binary is built without %s: go build -tags %s ./cmd/covey has it", u.Scheme, tag))
		}
		known := slices.Sorted(maps.Keys(drivers))
		for scheme := range tags {
			if drivers[scheme] == nil {
				known = append(known, scheme)
			}
		}
		return fail(spec.OneOf("store", u.Scheme, known...))
	}
	switch {
	case u.Host == "":
		return fail(errors.New("no bucket is named: expected " + u.Scheme + "://BUCKET/PREFIX"))
	case u.User != nil:
		return fail(errors.New("a URL is printed in logs and must hold no credentials: give them in the environment"))
	case u.Fragment != "":
		return fail(fmt.Errorf("#%s names no part of a store", u.Fragment))
	}
	fs, err := opened.get(u, open)
	if err != nil {
		return fail(err)
	}
	return place{fs: fs, name: clean(u.Path), url: u}, nil
}

// clean is a URL's path as a name in the bucket.
func clean(p string) string {
	if p = strings.TrimPrefix(path.Clean("/"+p), "/"); p == "" {
		return "."
	}
	return p
}

// path is what the user knows a name at this place by.
func (p place) path(name string) string {
	if p.url == nil {
		return name
	}
	u := *p.url
	u.Path, u.RawPath = "/"+clean(filepath.ToSlash(name)), ""
	return u.String()
}

// in is the name of another folder at the same place.
func (p place) in(where string) (string, error) {
	o, err := locate(where)
	if err != nil {
		return "", err
	}
	if (o.url == nil) != (p.url == nil) || o.url != nil && (o.url.Scheme != p.url.Scheme || o.url.Host != p.url.Host) {
		return "", fmt.Errorf("%s is not in the same store", where)
	}
	return o.name, nil
}

// within joins names to a path or URL.
func within(where string, names ...string) string {
	if !Remote(where) {
		return filepath.Join(append([]string{where}, names...)...)
	}
	u, err := url.Parse(where)
	if err != nil {
		return where // whoever uses it is told
	}
	u.Path, u.RawPath = "/"+clean(path.Join(append([]string{u.Path}, names...)...)), ""
	return u.String()
}

// on calls f with the place that where says. Errors of an object store name it.
func on(where string, f func(place) error) error {
	p, err := locate(where)
	if err != nil {
		return err
	}
	if err := f(p); err != nil && p.url != nil {
		return fmt.Errorf("%s://%s: %w", p.url.Scheme, p.url.Host, err)
	} else {
		return err
	}
}

// stores keeps what was opened, so that one connection serves a run.
type stores struct {
	mu  sync.Mutex
	all map[string]fsys
}

var opened stores

func (s *stores) get(u *url.URL, open driver) (fsys, error) {
	key := u.Scheme + "://" + u.Host + "?" + u.RawQuery
	s.mu.Lock()
	defer s.mu.Unlock()
	if fs, ok := s.all[key]; ok {
		return fs, nil
	}
	fs, err := open(u)
	if err != nil {
		return nil, err
	}
	if s.all == nil {
		s.all = map[string]fsys{}
	}
	s.all[key] = fs
	return fs, nil
}
