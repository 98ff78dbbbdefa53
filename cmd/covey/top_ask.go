package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/covey-ml/covey/ops"
	"github.com/covey-ml/covey/ops/top"
)

// answerTime is how long a worker may take to say how it is.
const answerTime = 3 * time.Second

// endpoints is the source that asks each worker once a second.
func endpoints(addrs []string, token string, creds *tls.Config) (source, error) {
	scheme := "http://"
	if creds != nil {
		scheme = "https://"
	}
	var all []*endpoint
	seen := map[string]bool{}
	client := &http.Client{Timeout: answerTime, Transport: &http.Transport{TLSClientConfig: creds, MaxResponseHeaderBytes: 16 << 10, MaxIdleConnsPerHost: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("it sends us elsewhere") }}
	for _, a := range addrs {
		full := a
		if !strings.Contains(a, "://") {
			full = scheme + a
		}
		u, err := url.Parse(full)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
			return nil, usagef("--ops %s: expected a URL or HOST:PORT, as in http://127.0.0.1:9090", a)
		}
		if u.Scheme == "https" && creds == nil {
			return nil, usagef("--ops %s: https needs this host's certificates, as --tls DIR", a)
		}
		if u.Path = strings.TrimSuffix(u.Path, "/"); !strings.HasSuffix(u.Path, "/status") {
			u.Path += "/status"
		}
		if !seen[u.String()] {
			seen[u.String()] = true
			all = append(all, &endpoint{name: u.Host, url: u.String(), token: token, client: client})
		}
	}
	return func(ctx context.Context, once bool, tell func(top.News)) error {
		defer client.CloseIdleConnections()
		errs := make([]error, len(all))
		var asked sync.WaitGroup
		for i, e := range all {
			asked.Go(func() { errs[i] = e.watch(ctx, once, tell) })
		}
		asked.Wait()
		for _, err := range errs {
			if err == nil {
				return nil
			}
		}
		return fmt.Errorf("no worker answers: %w", errs[0])
	}, nil
}

// endpoint is a worker that is asked how it is.
type endpoint struct {
	name, url, token string
	client           *http.Client
}

// watch returns nil when the worker has answered at least once.
func (e *endpoint) watch(ctx context.Context, once bool, tell func(top.News)) error {
	tell(top.News{Joined: &top.Joined{ID: e.url, Name: e.name}})
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	answered := false
	for {
		s, err := e.ask(ctx)
		if ctx.Err() == nil || err == nil {
			if err == nil {
				answered = true
				tell(top.News{Status: &top.Told{ID: e.url, Status: s}})
			} else {
				tell(top.News{Lost: &top.Lost{ID: e.url, Why: err.Error(), May: true}})
			}
		}
		if once && err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		if once {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if answered {
				return nil
			}
			return context.Cause(ctx)
		}
	}
}

// barely is an error without what the reader of a worker's line knows: which address that is.
func barely(err error) error {
	var (
		about *url.Error
		how   *net.OpError
		call  *os.SyscallError
	)
	if errors.As(err, &about) {
		if about.Timeout() {
			return fmt.Errorf("no answer within %v", answerTime)
		}
		err = about.Err
	}
	if errors.As(err, &how) && how.Op == "dial" {
		err = how.Err
	}
	if errors.As(err, &call) {
		err = call.Err
	}
	return err
}

// ask returns the worker's status.
func (e *endpoint) ask(ctx context.Context) (ops.Status, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url, nil)
	if err != nil {
		return ops.Status{}, err
	}
	if e.token != "" {
		req.Header.Set("Authorization", "Bearer "+e.token)
	}
	r, err := e.client.Do(req)
	if err != nil {
		return ops.Status{}, barely(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 64<<10+1))
	switch {
	case err != nil:
		return ops.Status{}, err
	case r.StatusCode == http.StatusUnauthorized:
		return ops.Status{}, fmt.Errorf("it does not know our token: give its token as --ops-token FILE, or in %s", ops.EnvToken)
	case r.StatusCode != http.StatusOK:
		return ops.Status{}, fmt.Errorf("it answers %s: is it a worker's --ops address?", r.Status)
	}
	return ops.ParseStatus(b)
}
