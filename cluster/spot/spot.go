// Package spot asks whoever lends this machine whether it is about to take it back, so that a worker can leave before.
//
//	s, err := spot.Parse("aws")
//	s.Watch(ctx, clock, func(why string) { ... leave ... }, func(err error) { ... tell ... })
package spot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/spec"
)

// Every is how often Watch asks: as AWS recommends, and often enough for the half minute that other clouds give.
const Every = 5 * time.Second

const (
	answer    = 4 * time.Second // to wait for one
	mostBytes = 1 << 20         // of one
)

// Source is who knows whether the machine is about to be taken. It may be asked by one goroutine at a time.
type Source struct {
	name string
	ask  func(ctx context.Context) (why string, err error)
}

// The clouds' metadata services, as a machine of theirs sees them.
const (
	linkLocal = "http://169.254.169.254"
	google    = "http://metadata.google.internal"
)

// Parse reads a source as users write it: aws, gcp or azure; a URL, which says something other than false when the machine is about to
// be taken, and nothing or 404 before; or a file, with a slash in its name, which is there when it is. Empty is nobody: a nil Source.
func Parse(text string) (*Source, error) {
	s := &Source{name: text}
	switch {
	case text == "":
		return nil, nil
	case text == "aws":
		s.ask = (&aws{base: linkLocal}).ask
	case text == "gcp":
		s.ask = gcp{google}.ask
	case text == "azure":
		s.ask = (&azure{base: linkLocal}).ask
	case strings.HasPrefix(text, "http://"), strings.HasPrefix(text, "https://"):
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("%q is not a URL", text)
		}
		s.name = u.Redacted()
		s.ask = func(ctx context.Context) (string, error) { return askURL(ctx, text) }
	case strings.ContainsAny(text, `/\`):
		s.ask = func(context.Context) (string, error) { return askFile(text) }
	default:
		return nil, fmt.Errorf("%w, or a URL, or a file with a slash in its name, as in ./taken", spec.OneOf("source", text, "aws", "gcp", "azure"))
	}
	return s, nil
}

// String is the source as users write it, without a password.
func (s *Source) String() string { return s.name }

// Ask returns why the machine is about to be taken, in words; empty when it is not known to be. ctx bounds the wait.
func (s *Source) Ask(ctx context.Context) (why string, err error) {
	if why, err = s.ask(ctx); err != nil {
		err = fmt.Errorf("%s does not say whether this machine is about to be taken: %w", s, err)
	}
	return why, err
}

// Watch asks again and again, until ctx ends or the machine is about to be taken, which it says once. trouble hears that asking fails,
// once until it succeeds again.
func (s *Source) Watch(ctx context.Context, clock comm.Clock, taken func(why string), trouble func(err error)) {
	for failing := false; ; {
		short, cancel := clock.WithTimeout(ctx, answer)
		why, err := s.Ask(short)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case why != "":
			taken(why)
			return
		case err != nil && !failing:
			trouble(err)
		}
		failing = err != nil
		if clock.Sleep(ctx, Every) != nil {
			return
		}
	}
}

// client goes to the machine's own network: around any proxy, and nowhere else than it was sent.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// reply is what a service answered.
type reply struct {
	code int
	head http.Header
	body []byte
}

// fetch asks a service, with a header of name and value.
func fetch(ctx context.Context, method, at, name, value string) (r reply, err error) {
	q, err := http.NewRequestWithContext(ctx, method, at, nil)
	if err != nil {
		return r, err
	}
	if name != "" {
		q.Header.Set(name, value)
	}
	a, err := client.Do(q)
	if err != nil {
		return r, err
	}
	defer a.Body.Close()
	r.code, r.head = a.StatusCode, a.Header
	if r.body, err = io.ReadAll(io.LimitReader(a.Body, mostBytes+1)); err == nil && len(r.body) > mostBytes {
		err = fmt.Errorf("%s %s: more than %d bytes", method, q.URL.Redacted(), mostBytes)
	}
	return r, err
}

// unexpected is the error of an answer that a service should not give.
func (r reply) unexpected() error {
	return fmt.Errorf("its answer is %d %s", r.code, http.StatusText(r.code))
}

func askURL(ctx context.Context, at string) (string, error) {
	r, err := fetch(ctx, http.MethodGet, at, "", "")
	switch {
	case err != nil:
		return "", err
	case r.code == http.StatusNotFound, r.code == http.StatusNoContent:
		return "", nil
	case r.code != http.StatusOK:
		return "", r.unexpected()
	}
	return said(r.body), nil
}

func askFile(path string) (string, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	case !st.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, mostBytes))
	if why := said(b); why != "" || err != nil {
		return why, err
	}
	return path + " is there", nil
}

// said is the first line of what somebody says, short enough to show; empty when it is nothing, or no.
func said(b []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(b), []byte("\n"))
	if text := strings.TrimSpace(string(line)); text != "" && !strings.EqualFold(text, "false") {
		return fmt.Sprintf("%.80q", text)
	}
	return ""
}
