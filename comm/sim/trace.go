package sim

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/covey-ml/covey/comm"
)

// span is what a goroutine of a worker did for a while.
type span struct {
	from, to time.Duration
	proc     int
	kind     spanKind
	op       comm.Op
	peer     comm.Rank
	bytes    int
}

type spanKind uint8

const (
	spanCompute spanKind = iota
	spanSend
	spanWait // for a message
	spanIdle // for its own worker
	spanSleep
)

// trace writes spans in the Chrome trace format, which Perfetto opens: a process a worker, a thread a goroutine of it.
type trace struct {
	w    *bufio.Writer
	err  error
	some bool
	buf  []byte
}

func newTrace(w *World, to io.Writer) *trace {
	t := &trace{}
	if to == nil {
		return t
	}
	t.w = bufio.NewWriterSize(to, 1<<20)
	t.write([]byte(`{"displayTimeUnit":"ms","traceEvents":[`))
	for r, n := range w.nodes {
		host := w.c.Network.Hosts[n.host].Name
		t.record(fmt.Appendf(nil, `{"ph":"M","name":"process_name","pid":%d,"args":{"name":"worker %d on %s"}}`, r, r, host))
		t.record(fmt.Appendf(nil, `{"ph":"M","name":"process_sort_index","pid":%d,"args":{"sort_index":%d}}`, r, r))
	}
	return t
}

func (t *trace) on() bool { return t.w != nil }

func (t *trace) write(b []byte) {
	if _, err := t.w.Write(b); err != nil && t.err == nil {
		t.err = fmt.Errorf("sim: writing the trace: %w", err)
	}
}

func (t *trace) record(b []byte) {
	if t.some {
		t.write([]byte(",\n"))
	} else {
		t.write([]byte("\n"))
	}
	t.some = true
	t.write(b)
}

// traceWait notes what p has just waited for.
func (n *node) traceWait(p *proc) {
	kind := spanSleep
	switch p.on.(type) {
	case computing:
		kind = spanCompute
	case *message:
		kind = spanSend
	case *receipt:
		kind = spanWait
	case *flag:
		kind = spanIdle
	}
	n.traceSpan(p, kind)
}

// traceSpan notes what p has done since.
func (n *node) traceSpan(p *proc, kind spanKind) {
	if !n.w.trace.on() || p.since == n.w.now {
		return
	}
	s := span{from: p.since, to: n.w.now, proc: p.number, kind: kind, peer: comm.AnyRank}
	if kind == spanCompute {
		n.note(s)
		return
	}
	switch on := p.on.(type) {
	case *message:
		s.op, s.peer, s.bytes = on.tag.Op(), on.to.rank, on.n
	case *receipt:
		s.op, s.peer, s.bytes = on.tag.Op(), on.from, len(on.p)
	}
	n.note(s)
}

func (n *node) note(s span) {
	n.spans = append(n.spans, s)
	if !n.running {
		n.flushTrace()
	}
}

// flushTrace writes what the worker has done since.
func (n *node) flushTrace() {
	for i := range n.spans {
		n.w.trace.span(n.rank, &n.spans[i])
	}
	n.spans = n.spans[:0]
}

// The colours are names that trace viewers know.
var spanLooks = [...]struct{ category, name, colour string }{
	spanCompute: {"compute", "compute", "thread_state_running"},
	spanSend:    {"communication", "send", "rail_response"},
	spanWait:    {"wait", "wait", "thread_state_iowait"},
	spanIdle:    {"wait", "wait for own worker", "grey"},
	spanSleep:   {"wait", "sleep", "grey"},
}

func (t *trace) span(r comm.Rank, s *span) {
	look := &spanLooks[s.kind]
	b := append(t.buf[:0], `{"ph":"X","pid":`...)
	b = strconv.AppendInt(b, int64(r), 10)
	b = append(b, `,"tid":`...)
	b = strconv.AppendInt(b, int64(s.proc), 10)
	b = append(b, `,"ts":`...)
	b = micros(b, s.from)
	b = append(b, `,"dur":`...)
	b = micros(b, s.to-s.from)
	b = append(b, `,"cat":"`...)
	b = append(b, look.category...)
	b = append(b, `","cname":"`...)
	b = append(b, look.colour...)
	b = append(b, `","name":"`...)
	switch s.kind {
	case spanSend:
		b = append(append(b, s.op.String()...), " to "...)
		b = strconv.AppendInt(b, int64(s.peer), 10)
	case spanWait:
		b = append(append(b, s.op.String()...), " from "...)
		if s.peer == comm.AnyRank {
			b = append(b, "anybody"...)
		} else {
			b = strconv.AppendInt(b, int64(s.peer), 10)
		}
	default:
		b = append(b, look.name...)
	}
	b = append(b, '"')
	if s.bytes > 0 {
		b = append(b, `,"args":{"bytes":`...)
		b = strconv.AppendInt(b, int64(s.bytes), 10)
		b = append(b, '}')
	}
	t.buf = append(b, '}')
	t.record(t.buf)
}

// micros appends a time in microseconds, exactly.
func micros(b []byte, d time.Duration) []byte {
	b = strconv.AppendInt(b, int64(d/1000), 10)
	if rest := d % 1000; rest != 0 {
		b = append(b, '.', byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
	}
	return b
}

func (t *trace) close(w *World) {
	if !t.on() {
		return
	}
	t.write([]byte("\n]}\n"))
	if err := t.w.Flush(); err != nil && t.err == nil {
		t.err = fmt.Errorf("sim: writing the trace: %w", err)
	}
}
