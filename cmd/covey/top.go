package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/covey-ml/covey/ops"
	"github.com/covey-ml/covey/ops/top"
)

// topOptions is one call of covey top.
type topOptions struct {
	urls  []string
	token string // file
	once  bool
	creds credentials
}

func topCommand() *cobra.Command {
	o := &topOptions{}
	c := &cobra.Command{
		Use:   "top --ops URL...",
		Short: "Watch the workers of a run",
		Long: `Show who takes part in a run, how fast each worker is, where its time goes and whom the others wait
for, drawn anew each second; q ends it. Rates are those of the last steps. Where standard output is no
terminal, or with --once, it is printed once.
` + exitHelp,
		Example: `  covey top --ops 127.0.0.1:9090,127.0.0.1:9091
  covey top --ops https://node1:9090 --ops https://node2:9090 --tls certs/ --once`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	c.Flags().SortFlags = false
	c.Flags().StringSliceVar(&o.urls, "ops", nil, "where workers show their numbers (covey train --ops): URLs, or HOST:PORT")
	c.Flags().StringVar(&o.token, "ops-token", "", "file with the token that they ask for (default: $"+ops.EnvToken+")")
	c.Flags().BoolVar(&o.once, "once", false, "print what there is, once")
	o.creds.addFlags(c)
	return c
}

// source tells what it hears of a run until ctx ends, or once all that there is. It returns nil when it has heard anything.
type source func(ctx context.Context, once bool, tell func(top.News)) error

func (o *topOptions) run(c *cobra.Command) error {
	from, err := o.source()
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	v := &topView{began: time.Now()}
	out, ok := c.OutOrStdout().(*os.File)
	if o.once || !ok || !term.IsTerminal(int(out.Fd())) {
		if err := from(ctx, true, v.tell); err != nil {
			return err
		}
		return v.print(c.OutOrStdout())
	}
	return v.live(ctx, cancel, from, out)
}

// source is where the command line says that news comes from.
func (o *topOptions) source() (source, error) {
	if len(o.urls) == 0 {
		return nil, usagef("whose? name workers with --ops, by the addresses at which covey train --ops has them show their numbers")
	}
	token, err := readToken(o.token)
	if err != nil {
		return nil, err
	}
	creds, err := o.creds.load()
	if err != nil {
		return nil, err
	}
	return endpoints(o.urls, token, creds)
}

// topView is what is known and drawn.
type topView struct {
	began time.Time
	mu    sync.Mutex
	state top.State
}

func (v *topView) tell(n top.News) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n.At = time.Since(v.began)
	v.state.Take(n)
}

func (v *topView) draw(z top.Size) []top.Line {
	v.mu.Lock()
	defer v.mu.Unlock()
	return top.Render(&v.state, time.Since(v.began), z)
}

// plainWidth is as wide as all columns get.
const plainWidth = 132

// print writes what is known as plain text.
func (v *topView) print(w io.Writer) error {
	for _, l := range v.draw(top.Size{Width: plainWidth}) {
		if _, err := fmt.Fprintln(w, l.Text); err != nil {
			return err
		}
	}
	return nil
}

// The terminal's own words.
const (
	screenOn  = "\x1b[?1049h\x1b[?25l" // another screen, no cursor
	screenOff = "\x1b[?25h\x1b[?1049l"
	toHome    = "\x1b[H"
	lineEnd   = "\x1b[0m\x1b[K\r\n" // and nothing behind it
	below     = "\x1b[J"
)

// live draws on a terminal until somebody has seen enough, and leaves the last picture there.
func (v *topView) live(ctx context.Context, cancel context.CancelFunc, from source, out *os.File) error {
	if in := int(os.Stdin.Fd()); term.IsTerminal(in) {
		before, err := term.MakeRaw(in)
		if err != nil {
			return err
		}
		defer term.Restore(in, before)
		go quitKeys(os.Stdin, cancel)
	}
	ended := make(chan error, 1)
	go func() { ended <- from(ctx, false, v.tell) }()
	fmt.Fprint(out, screenOn)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	soon := time.After(150 * time.Millisecond) // by then the first news is there
	var err error
	for going := true; going; {
		v.paint(out)
		select {
		case <-tick.C:
		case <-soon:
		case <-ctx.Done():
			going = false
		case err = <-ended:
			going = false
		}
	}
	fmt.Fprint(out, screenOff)
	if err != nil && ctx.Err() == nil {
		return err
	}
	width, _ := sizeOf(out)
	for _, l := range v.draw(top.Size{Width: width - 1}) {
		if _, err := io.WriteString(out, l.Text+"\r\n"); err != nil {
			return err
		}
	}
	return nil
}

// sizeOf is how wide and high a terminal is.
func sizeOf(out *os.File) (width, height int) {
	width, height, err := term.GetSize(int(out.Fd()))
	if err != nil || width < 1 || height < 1 {
		return 80, 24
	}
	return width, height
}

// paint draws the screen over the one before.
func (v *topView) paint(out *os.File) {
	width, height := sizeOf(out)
	colors := map[top.Kind]string{top.Title: "\x1b[1m", top.Faint: "\x1b[2m", top.Trouble: "\x1b[31m"}
	if os.Getenv("NO_COLOR") != "" {
		colors = nil
	}
	w := bufio.NewWriter(out)
	w.WriteString(toHome)
	for _, l := range v.draw(top.Size{Width: width, Height: height - 1}) {
		w.WriteString(colors[l.Kind] + l.Text + lineEnd)
	}
	w.WriteString(below)
	w.Flush()
}

// quitKeys calls quit when somebody types q, or what would interrupt if the terminal were not raw.
func quitKeys(in io.Reader, quit func()) {
	key := make([]byte, 1)
	for {
		if n, err := in.Read(key); err != nil || n == 1 && (key[0] == 'q' || key[0] == 'Q' || key[0] == 3 || key[0] == 4) {
			quit()
			return
		}
	}
}

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
