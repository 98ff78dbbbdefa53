package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/internal/realdata"
)

// The real files come from a server of our own: the first mirror has none, the second spoils one, the third is right.
func TestDownload(t *testing.T) {
	files := realdata.Path(t, "mnist")
	var asked []string
	note := func(prefix string, h http.Handler) http.Handler {
		return http.StripPrefix(prefix, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, prefix+r.URL.Path)
			h.ServeHTTP(w, r)
		}))
	}
	mux := http.NewServeMux()
	mux.Handle("/none/", note("/none", http.NotFoundHandler()))
	mux.Handle("/spoilt/", note("/spoilt", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := os.ReadFile(filepath.Join(files, filepath.Base(r.URL.Path)))
		if err != nil {
			t.Error(err)
			return
		}
		b[100] ^= 1
		w.Write(b)
	})))
	mux.Handle("/good/", note("/good", http.FileServer(http.Dir(files))))
	s := httptest.NewServer(mux)
	defer s.Close()

	dir := filepath.Join(t.TempDir(), "mnist")
	out, stderr, code := command(t, nil, "data", "download", "mnist", dir, "--mirror", s.URL+"/none", "--mirror", s.URL+"/spoilt", "--mirror", s.URL+"/good/")
	if code != exitDone || !strings.Contains(out, "4 files, each with the SHA-256 that is published") || !strings.Contains(stderr, "t10k-labels-idx1-ubyte.gz, 4,542 bytes, from "+s.URL) {
		t.Fatal(code, out, stderr)
	}
	if len(asked) != 12 {
		t.Errorf("asked %v", asked)
	}
	if out, stderr, code = command(t, nil, "data", "verify", dir); code != exitDone || strings.Count(out, "(as mnist publishes it)") != 4 {
		t.Error(code, out, stderr)
	}

	// Again: nothing is asked for.
	asked = nil
	if _, stderr, code = command(t, nil, "data", "download", "mnist", dir, "--mirror", s.URL+"/none"); code != exitDone || len(asked) != 0 || !strings.Contains(stderr, "is there already") {
		t.Error(code, stderr, asked)
	}

	// Only spoilt files: none gets its name, and the hash is named.
	dir = filepath.Join(t.TempDir(), "mnist")
	_, stderr, code = command(t, nil, "data", "download", "mnist", dir, "--mirror", s.URL+"/spoilt")
	if code != exitFailed || !strings.Contains(stderr, "SHA-256") || !strings.Contains(stderr, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609") {
		t.Error(code, stderr)
	}
	if holds(dir, "train-images-idx3-ubyte.gz") {
		t.Error("a spoilt file has its name")
	}
}

// A server that says nothing, or stops in the middle, is given up with a reason.
func TestImpatient(t *testing.T) {
	for name, begin := range map[string]func(http.ResponseWriter){
		"silent": func(http.ResponseWriter) {},
		"stops in the middle": func(w http.ResponseWriter) {
			w.Write([]byte("abc"))
			w.(http.Flusher).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				begin(w)
				select {
				case <-r.Context().Done():
				case <-done:
				}
			}))
			defer s.Close()
			defer close(done)
			c := &http.Client{Transport: &impatient{http.DefaultTransport, 50 * time.Millisecond}}
			resp, err := c.Get(s.URL)
			if err == nil {
				_, err = readAtMost(resp.Body, "body", 100)
				resp.Body.Close()
			}
			if err == nil || !strings.Contains(err.Error(), "sent nothing for 50 ms") {
				t.Error(err)
			}
		})
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("all")) }))
	defer s.Close()
	resp, err := (&http.Client{Transport: &impatient{http.DefaultTransport, time.Minute}}).Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	text, err := readAtMost(resp.Body, "body", 100)
	if err = errors.Join(err, resp.Body.Close()); err != nil || text != "all" {
		t.Error(text, err)
	}
}
