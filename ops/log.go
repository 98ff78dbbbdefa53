package ops

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/covey-ml/covey/spec"
)

// Formats and Levels are what Logger takes.
var (
	Formats = []string{"text", "json"}
	Levels  = []string{"debug", "info", "warn", "error"}
)

// Where is which place in a run the lines of a log come from. Setting it is fast and allocates nothing.
type Where struct {
	generation atomic.Uint64
	rank       atomic.Int64
	step       atomic.Int64
}

// Set says where the worker is from now on. A line that is written at the same time may have parts of both places.
func (w *Where) Set(generation uint64, rank, step int) {
	w.generation.Store(generation)
	w.rank.Store(int64(rank))
	w.step.Store(int64(step))
}

// Logger returns a logger whose every line says of which run, generation, rank and step it is; the step is the last one done.
// Generation 0 is before the first. An empty format is text, an empty level info.
func Logger(w io.Writer, format, level, run string) (*slog.Logger, *Where, error) {
	options := &slog.HandlerOptions{}
	if level != "" {
		if err := spec.OneOf("log level", level, Levels...); err != nil {
			return nil, nil, err
		}
		var l slog.Level
		if err := l.UnmarshalText([]byte(strings.ToUpper(level))); err != nil {
			return nil, nil, fmt.Errorf("log level: %w", err)
		}
		options.Level = l
	}
	var h slog.Handler
	switch format {
	case "text", "":
		h = slog.NewTextHandler(w, options)
	case "json":
		h = slog.NewJSONHandler(w, options)
	default:
		return nil, nil, spec.OneOf("log format", format, Formats...)
	}
	where := &Where{}
	return slog.New(&placed{inner: h.WithAttrs([]slog.Attr{slog.String("run", run)}), where: where}), where, nil
}

// placed is a handler that says of each record where it is from, outside of any group that the logger has opened.
type placed struct {
	inner slog.Handler
	where *Where
	add   []func(slog.Handler) slog.Handler // what With and WithGroup asked for, in order
}

var _ slog.Handler = (*placed)(nil)

func (p *placed) Enabled(ctx context.Context, l slog.Level) bool { return p.inner.Enabled(ctx, l) }

func (p *placed) Handle(ctx context.Context, r slog.Record) error {
	h := p.inner.WithAttrs([]slog.Attr{slog.Uint64("generation", p.where.generation.Load()), slog.Int64("rank", p.where.rank.Load()), slog.Int64("step", p.where.step.Load())})
	for _, add := range p.add {
		h = add(h)
	}
	return h.Handle(ctx, r)
}

func (p *placed) WithAttrs(attrs []slog.Attr) slog.Handler {
	return p.with(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (p *placed) WithGroup(name string) slog.Handler {
	return p.with(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (p *placed) with(f func(slog.Handler) slog.Handler) slog.Handler {
	return &placed{inner: p.inner, where: p.where, add: append(p.add[:len(p.add):len(p.add)], f)}
}
