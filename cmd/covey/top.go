package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/ops"
	"github.com/covey-ml/covey/ops/top"
)

// topOptions is one call of covey top.
type topOptions struct {
	urls  []string
	token string // file
	once  bool
	run   joinOptions // how a run's server is reached
}

func topCommand() *cobra.Command {
	o := &topOptions{}
	c := &cobra.Command{
		Use:   "top RUN | HOST:PORT | --ops URL...",
		Short: "Watch the workers of a run",
		Long: `Show who takes part in a run, how fast each worker is, where its time goes and whom the others wait
for, drawn anew each second; q ends it. Rates are those of the last steps. Where standard output is no
terminal, or with --once, it is printed once.

It asks the server of a run: of a folder's, while that was started with --min-workers or --max-workers, or
of the address that covey join is given. With --ops it asks the workers themselves.
` + exitHelp,
		Example: `  covey top runs/mnist-mlp-1
  COVEY_TOKEN=... covey top 127.0.0.1:7000
  covey top 10.0.0.1:4222,10.0.0.2:4222 --run digits-1 --tls certs/
  covey top --ops 127.0.0.1:9090,127.0.0.1:9091
  covey top --ops https://node1:9090 --ops https://node2:9090 --tls certs/ --once`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && len(o.urls) == 0:
				return usagef("whose? name a run folder, the server of a run as for covey join, or workers with --ops")
			case len(args) > 1, len(args) == 1 && len(o.urls) > 0:
				return usagef("one run at a time: either its server or its workers, with --ops")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return o.show(c, args) },
	}
	c.Flags().SortFlags = false
	c.Flags().StringSliceVar(&o.urls, "ops", nil, "where workers show their numbers (covey train --ops): URLs, or HOST:PORT")
	c.Flags().StringVar(&o.token, "ops-token", "", "file with the token that they ask for (default: $"+ops.EnvToken+")")
	c.Flags().BoolVar(&o.once, "once", false, "print what there is, once")
	c.Flags().StringVar(&o.run.run, "run", "", "which run of that server (default: the only one)")
	c.Flags().StringVar(&o.run.token, "token", os.Getenv(cluster.EnvToken), "the run's token, on loopback (default: $"+cluster.EnvToken+")")
	o.run.reach.addFlags(c)
	c.Flags().MarkHidden("nats") // it is the argument
	c.Flags().Lookup("token").DefValue = ""
	return c
}

// source tells what it hears of a run until ctx ends, or once all that there is. It returns nil when it has heard anything.
type source func(ctx context.Context, once bool, tell func(top.News)) error

func (o *topOptions) show(c *cobra.Command, args []string) error {
	from, err := o.source(args)
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
func (o *topOptions) source(args []string) (source, error) {
	if len(args) == 1 {
		return func(ctx context.Context, once bool, tell func(top.News)) error {
			store, err := o.open(ctx, args[0])
			if err != nil {
				return err
			}
			defer store.Close()
			return attendTop(ctx, store, once, listenFor, tell)
		}, nil
	}
	token, err := readToken(o.token)
	if err != nil {
		return nil, err
	}
	creds, err := o.run.reach.creds.load()
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
