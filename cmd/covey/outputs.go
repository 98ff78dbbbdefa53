package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// outputs are what the programs of a launch print: the standard output of rank 0 goes through, and everything else to standard
// error line by line, that of processes but the first behind the number that they were started as. The last lines of each are kept.
type outputs struct {
	first, others io.Writer
	quiet         bool // nothing of other ranks

	mu   sync.Mutex
	all  []*lines
	tail map[int][]string
}

const (
	lastLines = 5
	longLine  = 64 << 10 // is cut
)

// of returns where the output of a process that is started as a rank goes. first tells whether it is rank 0 by now, nil where that
// does not change: the first one's standard output then goes through to the byte.
func (o *outputs) of(rank int, first func() bool) (stdout, stderr io.Writer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	errs, outs := &lines{o: o, rank: rank}, &lines{o: o, rank: rank, first: first}
	o.all = append(o.all, errs, outs)
	if rank == 0 && first == nil {
		return o.first, errs
	}
	return outs, errs
}

// flush ends the lines that have no end, once nobody writes any more.
func (o *outputs) flush() {
	o.mu.Lock()
	all := o.all
	o.mu.Unlock()
	for _, w := range all {
		if len(w.part) > 0 {
			w.Write([]byte("\n"))
		}
	}
}

// lines writes whole lines of one rank.
type lines struct {
	o     *outputs
	rank  int
	first func() bool
	part  []byte
}

// Write implements io.Writer. A line that has no end yet waits for it.
func (w *lines) Write(p []byte) (int, error) {
	w.part = append(w.part, p...)
	for {
		at := slices.Index(w.part, '\n')
		if at < 0 && len(w.part) < longLine {
			return len(p), nil
		}
		next := at + 1
		if at < 0 {
			at, next = len(w.part), len(w.part)
		}
		w.o.line(w.rank, w.first != nil && w.first(), string(w.part[:at]))
		w.part = append(w.part[:0], w.part[next:]...)
	}
}

func (o *outputs) line(rank int, first bool, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tail == nil {
		o.tail = map[int][]string{}
	}
	kept := append(o.tail[rank], text)
	o.tail[rank] = kept[max(0, len(kept)-lastLines):]
	switch {
	case first:
		fmt.Fprintf(o.first, "%s\n", text)
	case rank == 0:
		fmt.Fprintf(o.others, "%s\n", text)
	case !o.quiet:
		fmt.Fprintf(o.others, "[%d] %s\n", rank, text)
	}
}

// last are the last lines of a rank.
func (o *outputs) last(rank int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var b strings.Builder
	for _, l := range o.tail[rank] {
		fmt.Fprintf(&b, "  %s\n", l)
	}
	return b.String()
}
