//go:build s3 || gs || azblob

package ckpt

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/covey-ml/covey/spec"
)

// What the drivers of object stores have in common.

const (
	// partSize is what is sent or fetched in one request at most, in bytes, and held in memory meanwhile.
	partSize = 16 << 20
	// requestTimeout bounds a request, its body included: a part in it takes 0.6 Mbit/s. Requests are tried attempts times.
	requestTimeout = 4 * time.Minute
	attempts       = 5
)

// flat is of a store that has names and no folders.
type flat struct{}

func (flat) Objects() bool         { return true }
func (flat) MkdirAll(string) error { return nil }
func (flat) SyncDir(string) error  { return nil }
func (flat) Rename(from, _ string) error {
	return fmt.Errorf("%s: an object store renames nothing", from)
}

func key(name string) string { return filepath.ToSlash(filepath.Clean(name)) }

// folderKey is the prefix of all that is in a folder.
func folderKey(dir string) string {
	if k := key(dir); k != "." {
		return k + "/"
	}
	return ""
}

// manifestFirst sorts the keys of a folder that is to go.
func manifestFirst(keys []string, folder string) {
	manifest := folderKey(folder) + ManifestFile
	first := func(k string) int {
		if k == manifest {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(keys, func(x, y string) int { return cmp.Compare(first(x), first(y)) })
}

// parameters reads what follows a URL's question mark, where only these keys are known.
func parameters(u *url.URL, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, err
	}
	for k, v := range q {
		if err := spec.OneOf("key", k, known...); err != nil {
			return nil, err
		}
		if len(v) != 1 {
			return nil, fmt.Errorf("%s is given %d times", k, len(v))
		}
	}
	return q, nil
}

// endpoint reads where a store is reached.
func endpoint(where string) (*url.URL, error) {
	e, err := url.Parse(where)
	if err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" {
		return nil, fmt.Errorf("endpoint %q: expected https://HOST, or https://HOST:PORT", where)
	}
	if e.Scheme == "http" && !loopback(e.Hostname()) {
		return nil, fmt.Errorf("endpoint %s: beyond this machine checkpoints travel by https", where)
	}
	return e, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// client is for requests of at most some time, body and all, whose redirects are whoever's who asks.
func client(most time.Duration) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = time.Minute
	t.DisableCompression = true
	return &http.Client{Timeout: most, Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// bounded gives each request the client's time limit, which a transport alone does not have.
type bounded struct{ *http.Client }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) { return b.Do(r) }

// ranged is a store that is read in ranges.
type ranged interface {
	// fetch reads a range of one version of an object.
	fetch(name, version string, p []byte, off int64) error
	again(error) bool // another attempt may help
	fail(doing, name string, err error) error
}

// object is read range by range, all of one version.
type object struct {
	ranged
	name, version string
	size          int64
}

func (o *object) Size() int64  { return o.size }
func (o *object) Close() error { return nil }

func (o *object) ReadAt(p []byte, off int64) (n int, err error) {
	if off >= o.size {
		return 0, io.EOF
	}
	short := off+int64(len(p)) > o.size
	p = p[:min(int64(len(p)), o.size-off)]
	for n < len(p) {
		k := min(len(p)-n, partSize)
		var err error
		for range attempts { // the client tries a request again, not a body that breaks off
			if err = o.fetch(o.name, o.version, p[n:n+k], off+int64(n)); err == nil || !o.again(err) {
				break
			}
		}
		if err != nil {
			return n, o.fail("read", o.name, err)
		}
		n += k
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}
