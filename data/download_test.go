package data

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
)

var modified = time.Unix(0, 0)

func published(name, content string) File {
	return File{name, int64(len(content)), fmt.Sprintf("%x", sha256.Sum256([]byte(content)))}
}

// serve answers every request by f and counts them.
func serve(t *testing.T, f http.HandlerFunc) (url string, asked *atomic.Int32) {
	asked = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		f(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", modified, strings.NewReader(s))
	}
}

func holds(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		p, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(p)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the folder holds %q, expected %q", got, want)
	}
}

const content = "the quick brown fox jumps over the lazy dog"

func TestDownload(t *testing.T) {
	var paths []string
	url, asked := serve(t, func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		text(content+r.URL.Path)(w, r)
	})
	dir := filepath.Join(t.TempDir(), "new", "folder")
	files := []File{published("a.gz", content+"/x/a.gz"), published("b.gz", content+"/x/b.gz")}
	var last Progress
	for range 2 { // the second time, all is there
		if err := Download(ctx, nil, dir, []string{url + "/x/"}, files, func(p Progress) { last = p }); err != nil {
			t.Fatal(err)
		}
		if last.File != "b.gz" || last.Done != last.Total || last.Total != files[1].Size {
			t.Errorf("the last progress is %+v", last)
		}
	}
	holds(t, dir, map[string]string{"a.gz": content + "/x/a.gz", "b.gz": content + "/x/b.gz"})
	if asked.Load() != 2 || strings.Join(paths, " ") != "/x/a.gz /x/b.gz" {
		t.Errorf("asked for %v", paths)
	}
}

func TestDownloadGoesToTheNextMirror(t *testing.T) {
	good, _ := serve(t, text(content))
	gone, _ := serve(t, http.NotFound)
	other, _ := serve(t, text(strings.ToUpper(content)))
	long, _ := serve(t, text(content+"and more"))
	cut, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Write([]byte(content[:10]))
	})
	short, _ := serve(t, text(content[:10]))
	file := published("a", content)
	for name, c := range map[string]struct {
		url  string
		says []string // when it is the only one
		left string   // in a.part then
	}{
		"not found":   {gone, []string{"download a", "/a: the server answers 404 Not Found"}, ""},
		"other bytes": {other, []string{"/a: ", "is not the published file", file.SHA256, published("", strings.ToUpper(content)).SHA256}, "none"},
		"too long":    {long, []string{"/a: is longer than the 43 bytes expected"}, ""},
		"cut":         {cut, []string{"/a: ended after 10 of 43 bytes"}, content[:10]},
		"short":       {short, []string{"/a: ended after 10 of 43 bytes"}, content[:10]},
		"no server":   {"http://127.0.0.1:1", []string{"127.0.0.1:1/a"}, ""},
	} {
		dir := t.TempDir()
		err := Download(ctx, nil, dir, []string{c.url}, []File{file}, nil)
		for _, w := range c.says {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v does not say %q", name, err, w)
			}
		}
		if c.left == "none" {
			holds(t, dir, nil)
		} else {
			holds(t, dir, map[string]string{"a.part": c.left})
		}
		if err := Download(ctx, nil, dir, []string{c.url, good}, []File{file}, nil); err != nil {
			t.Errorf("%s, then a good mirror: %v", name, err)
		}
		holds(t, dir, map[string]string{"a": content})
	}
}

func TestDownloadContinues(t *testing.T) {
	file := published("a", content)
	var ranges []string
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		text(content)(w, r)
	})
	plain, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(content)) }) // knows no ranges
	for name, c := range map[string]struct{ url, kept, ranges string }{
		"from the middle":             {url, content[:20], "[bytes=20-]"},
		"whole already":               {url, content, "[]"},
		"spoilt: begins again":        {url, "xyz", "[bytes=3- ]"},
		"spoilt and whole":            {url, strings.ToUpper(content), "[]"},
		"longer than the file":        {url, content + content, "[]"},
		"from a server without range": {plain, content[:20], "[]"},
	} {
		ranges = nil
		dir := put(t, "a.part", c.kept)
		if err := Download(ctx, nil, dir, []string{c.url}, []File{file}, nil); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		holds(t, dir, map[string]string{"a": content})
		if got := fmt.Sprint(ranges); c.url == url && strings.Trim(got, "[] ") != strings.Trim(c.ranges, "[] ") {
			t.Errorf("%s: asked for %s, expected %s", name, got, c.ranges)
		}
	}
}

func TestDownloadKeepsWhatIsThere(t *testing.T) {
	url, asked := serve(t, text(content))
	dir := put(t, "a", "mine")
	err := Download(ctx, nil, dir, []string{url}, []File{published("a", content)}, nil)
	if err == nil || !strings.Contains(err.Error(), "move it away") || asked.Load() != 0 {
		t.Errorf("got %v after %d requests", err, asked.Load())
	}
	holds(t, dir, map[string]string{"a": "mine"})
	if err := Download(ctx, nil, dir, nil, []File{published("b", content)}, nil); err == nil || !strings.Contains(err.Error(), "no mirror") {
		t.Errorf("without mirrors: %v", err)
	}
}

func TestDownloadEndsWithItsContext(t *testing.T) {
	defer goleak.VerifyNone(t)
	release := make(chan struct{})
	for _, c := range []struct {
		name string
		sent int // bytes before the server hangs; -1: not even a header
	}{{"before the answer", -1}, {"within the body", 10}} {
		ctx, cancel := context.WithCancelCause(context.Background())
		why := errors.New("the user pressed Ctrl-C")
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c.sent >= 0 {
				w.Write([]byte(content[:c.sent]))
				w.(http.Flusher).Flush()
			} else {
				cancel(why)
			}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}))
		client := s.Client()
		dir := t.TempDir()
		err := Download(ctx, client, dir, []string{s.URL, s.URL + "/second"}, []File{published("a", content)}, func(Progress) { cancel(why) })
		if !errors.Is(err, why) || !strings.Contains(err.Error(), "download a") {
			t.Errorf("%s: got %v", c.name, err)
		}
		holds(t, dir, map[string]string{"a.part": content[:max(c.sent, 0)]})
		client.CloseIdleConnections()
		s.Close()
		cancel(nil)
	}
	close(release)
}

func TestReadEndsWithItsContext(t *testing.T) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := Open(over, "digits", Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("digits: %v", err)
	}
	dir := put(t, "d.csv", "1,2\n3,4\n")
	if _, _, err = Open(over, dir+"/d.csv", Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a file: %v", err)
	}
	if _, err = Read(context.Background(), iotest.ErrReader(errors.New("the pipe broke")), "pipe", Options{}); err == nil || !strings.Contains(err.Error(), "pipe, byte 0: the pipe broke") {
		t.Errorf("a broken pipe: %v", err)
	}
}

func TestSources(t *testing.T) {
	for _, s := range Sources() {
		if s.Name == "" || s.What == "" || s.Train <= 0 || s.Licence == "" || (len(s.Files) > 0) != (len(s.Mirrors) > 0) {
			t.Errorf("source %+v lacks something", s)
		}
		for _, f := range s.Files {
			if len(f.SHA256) != 64 || f.Size <= 0 || idxKind(f.Name) == "" {
				t.Errorf("%s: file %+v", s.Name, f)
			}
		}
	}
}
