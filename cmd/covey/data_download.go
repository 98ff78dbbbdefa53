package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/worker"
)

// stall is how long a mirror may send nothing before the next one is tried.
const stall = 30 * time.Second

func dataDownloadCommand() *cobra.Command {
	var mirrors []string
	c := &cobra.Command{
		Use:   "download NAME DIR",
		Short: "Get a public data set, and check its SHA-256",
		Long: `Download a data set that covey data list names. Files that are there already are checked and kept, what an
earlier call left unfinished is continued, and nothing gets its name before its SHA-256 is right.` + "\n" + exitHelp,
		Example: `  covey data download mnist mnist/
  covey data download mnist mnist/ --mirror https://mirror.example.org/mnist`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("expected the name of the data and a folder, as in covey data download mnist mnist/")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			s, err := downloadable(args[0])
			if err != nil {
				return err
			}
			for _, m := range mirrors {
				if !strings.HasPrefix(m, "https://") && !strings.HasPrefix(m, "http://") {
					return usagef("--mirror %s: expected an address that begins with https:// or http://", m)
				}
			}
			if len(mirrors) == 0 {
				mirrors = s.Mirrors
			}
			ctx, cancel := context.WithCancelCause(c.Context())
			defer cancel(nil)
			defer worker.OnSignals(func(bool) {
				cancel(&codedError{errors.New("interrupted; the same command goes on where it stopped"), exitInterrupted})
			})()
			client := &http.Client{Transport: &impatient{http.DefaultTransport, stall}}
			show := newDownloads(c.ErrOrStderr())
			err = data.Download(ctx, client, args[1], mirrors, s.Files, show.take)
			show.end()
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s is in %s, %s, each with the SHA-256 that is published; use it with: covey train --data %s\n",
				s.Name, args[1], count(len(s.Files), "file"), args[1])
			return nil
		},
	}
	c.Flags().StringArrayVar(&mirrors, "mirror", nil, "address of a folder to get the files from, instead of the known ones; may be repeated")
	return c
}

// downloadable finds a source that has mirrors.
func downloadable(name string) (data.Source, error) {
	var names []string
	for _, s := range data.Sources() {
		switch {
		case s.Name == name && len(s.Mirrors) > 0:
			return s, nil
		case s.Name == name:
			return s, usagef("%s needs no download: covey makes it (covey data make %s DIR)", name, name)
		case len(s.Mirrors) > 0:
			names = append(names, s.Name)
		}
	}
	return data.Source{}, &usageError{spec.OneOf("data set", name, names...)}
}

// downloads shows how far a download is: on a terminal one line that is written anew, elsewhere a line a file.
type downloads struct {
	out      io.Writer
	terminal bool
	file     string
	width    int
	printed  time.Time
}

func newDownloads(out io.Writer) *downloads {
	d := &downloads{out: out}
	if f, ok := out.(*os.File); ok {
		d.terminal = term.IsTerminal(int(f.Fd()))
	}
	return d
}

func (d *downloads) take(p data.Progress) {
	if p.File != d.file {
		d.end()
		d.file = p.File
		if !d.terminal {
			from := "is there already"
			if p.Mirror != "" {
				from = "from " + p.Mirror
			}
			fmt.Fprintf(d.out, "%s, %s, %s\n", p.File, bytes(p.Total), from)
		}
	}
	if now := time.Now(); d.terminal && (p.Done == p.Total || now.Sub(d.printed) > often) {
		d.printed = now
		text := fmt.Sprintf("%s  %s of %s  %.0f %%", p.File, bytes(p.Done), bytes(p.Total), 100*float64(p.Done)/float64(p.Total))
		fmt.Fprintf(d.out, "\r%s%s", text, strings.Repeat(" ", max(0, d.width-len(text))))
		d.width = len(text)
	}
}

// end closes the line on the terminal.
func (d *downloads) end() {
	if d.width > 0 {
		fmt.Fprintln(d.out)
		d.width = 0
	}
}

// impatient gives up a request when the server sends nothing for so long.
type impatient struct {
	next http.RoundTripper
	wait time.Duration
}

// RoundTrip implements http.RoundTripper.
func (i *impatient) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	stalled := fmt.Errorf("%s sent nothing for %s", req.URL.Host, short(i.wait))
	timer := time.AfterFunc(i.wait, func() { cancel(stalled) })
	resp, err := i.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		timer.Stop()
		err = because(ctx, err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &watched{resp.Body, ctx, cancel, timer, i.wait}
	return resp, nil
}

// because prefers the reason why ctx ended to the error that its end led to.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

type watched struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	wait   time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = because(w.ctx, err)
	}
	w.timer.Reset(w.wait)
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	return w.ReadCloser.Close()
}
