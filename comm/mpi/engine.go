//go:build mpi && cgo

package mpi

// #include "engine.h"
import "C"

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/covey-ml/covey/comm"
)

// engine is the process's use of the library: it moves frames between the links of its groups and MPI. Passes are made by
// goroutines that wait (drive) and by the one goroutine that looks on everybody's behalf (watch).
type engine struct {
	rank, size int
	tags       int // MPI tags go from 0 to this
	hosts      []string
	spin       time.Duration

	drivers atomic.Int32
	stop    chan struct{} // closed to end watch
	stopped chan error    // gets what ending the library said

	mu     sync.Mutex // guards what follows, and every call of the library
	events [64]C.covey_event
	links  map[address]*link
	owners map[uint64]*link // those with frames that the library holds
	next   uint64           // owner
	groups int              // opened so far
	held   map[*link]bool   // those with frames that the mesh did not take
	last   time.Time        // when something last came, went or was waited for
	broken error            // why the library is of no use any more
	stuck  bool             // a collective of the library's own was given up: it goes on for ever
	stray  func(source, tag int, frame []byte)
}

// address is where a link's frames come from: an MPI rank, with an MPI tag.
type address struct{ source, tag int }

// failure is an error of the library.
func failure(what string, code C.int) error {
	if code == 0 {
		return nil
	}
	var text [512]C.char
	C.covey_say(code, &text[0], C.int(len(text)))
	return fmt.Errorf("mpi: %s: %s (error %d)", what, C.GoString(&text[0]), int(code))
}

// Library says which library this is, in its own words. It needs no Init.
func Library() string {
	var text [512]C.char
	C.covey_library(&text[0], C.int(len(text)))
	return C.GoString(&text[0])
}

// patience is how long to look without giving way, when so many processes share the host.
func patience(neighbours int) time.Duration {
	if neighbours <= runtime.NumCPU() {
		return 20 * time.Microsecond
	}
	return 0
}

// driving is how long who waits looks by itself before it leaves that to watch.
const driving = 200 * time.Microsecond

// rest sleeps, when nothing has come for so long: see Waiting in the package's comment. A short sleep is the kernel's, since
// Go's timers may come a millisecond late. A long one is Go's, whose scheduler would otherwise look after the sleeping
// thread every 20 microseconds.
func rest(quiet time.Duration) {
	if d := max(quiet/64, 20*time.Microsecond); d < time.Millisecond {
		C.covey_nap(C.int(d.Microseconds()))
	} else {
		time.Sleep(time.Millisecond)
	}
}

// drive makes passes until done says so or patience ends.
func (e *engine) drive(done func() bool) {
	e.drivers.Add(1)
	defer e.drivers.Add(-1)
	begun, turns := time.Now(), 0
	for {
		busy := false
		if e.mu.TryLock() {
			if busy = e.pass(); e.last.Before(begun) {
				e.last = begun
			}
			e.mu.Unlock()
		}
		if done() {
			return
		}
		if busy {
			begun, turns = time.Now(), 0
			continue
		}
		took := time.Since(begun)
		if took > driving {
			return
		}
		if took >= e.spin {
			C.covey_yield()
			runtime.Gosched()
		} else if turns++; turns%16 == 0 {
			runtime.Gosched()
		}
	}
}

// watch makes passes until stop is closed, with sleeps between those that find nothing: see Waiting in the package's
// comment.
func (e *engine) watch() {
	for {
		select {
		case <-e.stop:
			return
		default:
		}
		e.mu.Lock()
		busy, quiet := e.pass(), time.Since(e.last)
		e.mu.Unlock()
		switch {
		case e.drivers.Load() > 0:
			time.Sleep(time.Millisecond)
		case busy:
			runtime.Gosched() // to whom the pass has woken
		default:
			rest(quiet)
		}
	}
}

// pass looks at everything once and tells whether there was anything. mu is held.
func (e *engine) pass() (busy bool) {
	if e.broken != nil {
		return false
	}
	for more := true; more; {
		var n C.int
		if code := C.covey_pass(&e.events[0], C.int(len(e.events)), &n); code != 0 {
			e.fail(failure("looking for messages", code))
			return true
		}
		for i := range e.events[:n] {
			e.take(&e.events[i])
			busy = true
		}
		more = int(n) == len(e.events)
	}
	for l := range e.held {
		if l.offer() {
			busy = true
		}
	}
	if busy {
		e.last = time.Now()
	}
	return busy
}

// take deals with an event. mu is held.
func (e *engine) take(v *C.covey_event) {
	if v.kind == C.COVEY_SENT {
		l := e.owners[uint64(v.owner)]
		if l == nil {
			return
		}
		l.under--
		if v.code != 0 {
			l.lose(fmt.Errorf("%w: %w", comm.ErrLost, failure("sending", v.code)))
		}
		l.wake()
		return
	}
	defer C.covey_give(v.buf)
	source, tag := int(v.source), int(v.tag)
	frame := unsafe.Slice((*byte)(v.buf), int(v.size))
	l := e.links[address{source, tag}]
	switch {
	case l == nil: // of a group that is closed, or, in tests, for others
		if e.stray != nil {
			e.stray(source, tag, frame)
		}
	case v.code != 0:
		l.lose(fmt.Errorf("%w: %w", comm.ErrLost, failure("receiving", v.code)))
	default:
		l.read(frame)
	}
}

// send sends a frame; where its payload goes, fill puts it. mu is held.
func (e *engine) send(to, tag, size int, owner uint64, fill func(frame []byte)) error {
	if e.broken != nil {
		return e.broken
	}
	buf := C.covey_take(C.int(size))
	if buf == nil {
		return fmt.Errorf("mpi: no memory for a frame of %d bytes", size)
	}
	fill(unsafe.Slice((*byte)(buf), size))
	return failure("sending", C.covey_send(buf, C.int(size), C.int(to), C.int(tag), C.uint64_t(owner)))
}

// fail gives the library up: all links are lost. mu is held.
func (e *engine) fail(err error) {
	if e.broken != nil {
		return
	}
	e.broken = err
	for _, l := range e.links {
		l.lose(fmt.Errorf("%w: %w", comm.ErrLost, err))
	}
}
