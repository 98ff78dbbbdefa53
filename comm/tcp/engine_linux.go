package tcp

import (
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// engine reads the raw sockets of a group. A pass reads from each what has come; passes are made by goroutines that
// wait for something (drive, writable) and, while none does, by one that sleeps in the kernel on their behalf (watch).
//
// Of those who wait one leads: it makes passes, first without sleeping, then sleeping in poll(2) between them. The
// others sleep until their receive has ended, and when the leader leaves, watch takes its place at once if somebody
// sleeps (orphans), else when it finds that nobody has led for a tick. While somebody leads, watch sleeps without
// looking at the sockets, or each arrival would wake two.
//
// No arrival is missed: poll is level-triggered, and a socket is left out of it only when it has ended, when its
// group closes, or when its next message has no room, for which a goroutine waits then (link.awaitRoom).
type engine struct {
	g      *group
	links  []*link // the raw ones
	spin   time.Duration
	bell   int           // an eventfd: ends watch's sleep
	slots  []unix.PollFd // the leader's
	rounds int           // the leader's

	leading atomic.Bool
	turns   atomic.Uint32 // goroutines that began to wait
	orphans atomic.Bool   // somebody sleeps who counts on a leader or on watch
	needed  atomic.Bool   // watch must look at the sockets
	standby atomic.Bool   // watch does not
	closed  atomic.Bool
	call    chan struct{} // a token ends standBy's sleep
	stopped chan struct{} // closed when watch has ended
}

const (
	// tick is how often watch looks whether somebody leads, and how long a leader sleeps at a time. In milliseconds,
	// as poll(2) wants it.
	tick = 1
	// naps is how many ticks without any arrival a leader sleeps before it leaves the rest to watch.
	naps = 4
	// spin is how long a leader makes passes without giving way, where each rank has a processor of its own, and
	// patience how long it makes them before it sleeps.
	spin     = 20 * time.Microsecond
	patience = 200 * time.Microsecond
)

// newEngine returns the engine of a group, or nil when the system gives it no eventfd: then goroutines read.
func newEngine(g *group) *engine {
	bell, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil
	}
	return &engine{g: g, bell: bell, call: make(chan struct{}, 1), stopped: make(chan struct{})}
}

// take makes a socket raw, if it is plain.
func (e *engine) take(s *socket) {
	if s.tls == nil {
		s.raw = newRaw(s.tcp)
	}
}

// start begins to serve those links of the group that are raw.
func (e *engine) start() {
	for _, l := range e.g.links {
		if l != nil && l.raw != nil {
			e.links = append(e.links, l)
		}
	}
	if len(e.links) < runtime.NumCPU() { // plain sockets stay on this machine
		e.spin = spin
		for _, l := range e.links {
			l.raw.restrain() // else a writer had better fill the buffer before it gives way to its reader
		}
	}
	e.slots = make([]unix.PollFd, len(e.links))
	if len(e.links) == 0 {
		close(e.stopped)
		return
	}
	e.g.Idle(e.drive)
	go e.watch()
}

// pass reads what has come on every link, or, where look has looked, on those where it saw something, and tells
// whether there was something. The leader waits for whom it finds reading, which is soon over, since others stop for it.
func (e *engine) pass(leader, looked bool) (busy bool) {
	for i, l := range e.links {
		if looked && e.slots[i].Revents == 0 && !l.paused.Load() {
			continue
		}
		if leader {
			l.in.mu.Lock()
		} else if !l.in.mu.TryLock() {
			continue
		}
		l.in.leader = leader
		busy = l.advance() || busy
		l.in.mu.Unlock()
	}
	return busy
}

// look tells whether a pass may find something. One poll does for all links, and unlike a read it does not take the
// sockets' locks, for which whoever writes to them would wait. The caller leads.
func (e *engine) look() (some bool) {
	for i, l := range e.links {
		e.slots[i] = l.pollable()
		some = some || l.paused.Load()
	}
	n, _, _ := unix.RawSyscall(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&e.slots[0])), uintptr(len(e.slots)), uintptr(unsafe.Pointer(&atOnce)))
	return some || int(n) > 0
}

// atOnce is a time that poll is to wait: none.
var atOnce unix.Timespec

// advance is pump, with what follows from its end. in.mu is held.
func (l *link) advance() bool {
	in := &l.in
	if in.over || l.parting.Load() {
		return false
	}
	in.moved, l.raw.short = false, false
	err := l.pump()
	l.paused.Store(err == errFull)
	switch err {
	case errAgain, errFull: // there being no room, the next pass tries again, or, once all sleep, a goroutine: see mind
	default:
		l.end(err)
		l.deaf.Store(true)
		close(l.read)
		return true
	}
	return in.moved
}

// mind has a goroutine wait for room on each link that needs some, before the caller sleeps, which only a socket ends.
// While passes are made they see for themselves: the usual case, a peer that is ahead by one call, costs no goroutine.
func (e *engine) mind() {
	for _, l := range e.links {
		if !l.paused.Load() {
			continue
		}
		l.in.mu.Lock()
		if l.paused.Load() && !l.in.awaited && !l.in.over && !l.parting.Load() {
			l.in.awaited = true
			l.wg.Go(l.awaitRoom)
		}
		l.in.mu.Unlock()
	}
}

// awaitRoom goes on with a message for which there was no room as soon as there is some.
func (l *link) awaitRoom() {
	in := &l.in
	in.mu.Lock()
	defer in.mu.Unlock()
	for l.paused.Load() && !in.over && !l.parting.Load() {
		room := l.mesh.Room(l.peer)
		in.mu.Unlock()
		select {
		case <-room:
		case <-l.broken:
		case <-l.leaving:
		}
		in.mu.Lock()
		in.leader = true // for once: whoever leads leaves a link without room to this goroutine
		l.advance()
	}
	in.awaited = false
	l.engine.ring() // the socket is to be looked at again
}

// lead makes the caller the leader, if there is none; if there is, it or watch will see to what the caller waits for.
func (e *engine) lead() bool {
	e.turns.Add(1)
	if e.leading.CompareAndSwap(false, true) {
		return true
	}
	e.orphans.Store(true)
	return e.leading.CompareAndSwap(false, true)
}

// wake ends standBy's sleep.
func (e *engine) wake() {
	select {
	case e.call <- struct{}{}:
	default:
	}
}

// led tells whether somebody leads.
func (e *engine) led() bool { return e.leading.Load() }

// resign ends the caller's lead.
func (e *engine) resign() {
	e.leading.Store(false)
	if e.orphans.Swap(false) {
		e.needed.Store(true)
		if e.standby.Load() {
			e.wake()
		}
	}
}

// drive is what the mesh calls before a goroutine sleeps.
func (e *engine) drive(done <-chan struct{}) {
	if e.closed.Load() || !e.lead() {
		return
	}
	defer e.resign()
	var begun time.Time
	for slept := 0; slept < naps; {
		looked := !begun.IsZero()
		busy := (!looked || e.look()) && e.pass(true, looked)
		switch {
		case len(done) > 0:
			return
		case busy || begun.IsZero():
			begun, slept = time.Now(), 0
		case !e.linger(begun):
			if e.closed.Load() {
				return
			}
			if e.sleep(nil, tick) == 0 {
				slept++
			}
		}
	}
	e.orphans.Store(true)
}

// linger lets the next pass be made at once, or tells that it is time to sleep.
func (e *engine) linger(begun time.Time) bool {
	waited := time.Since(begun)
	if waited >= patience {
		return false
	}
	if waited >= e.spin { // to other processes, then and when to other goroutines, which costs more
		giveWay()
		if e.rounds++; e.rounds%64 == 0 {
			runtime.Gosched()
		}
	}
	return true
}

// writable waits, for a tick at most, until l's socket may take more, and reads what comes meanwhile: the peer may be
// writing to this rank, too, and wait for just that.
func (e *engine) writable(l *link) {
	if e.lead() {
		defer e.resign()
		switch {
		case e.pass(true, false):
			l.full = time.Time{}
		case l.full.IsZero():
			l.full = time.Now()
		case !e.linger(l.full):
			e.sleep(l, tick)
			e.pass(true, false)
			l.full = time.Time{}
		}
		return
	}
	one := [1]unix.PollFd{{Fd: int32(l.raw.fd), Events: unix.POLLOUT}}
	unix.Poll(one[:], tick)
}

// sleep waits until something comes, or until l, if it is not nil, can be written to. The caller leads.
func (e *engine) sleep(writer *link, ms int) int {
	e.mind()
	for i, l := range e.links {
		e.slots[i] = l.pollable()
		if l == writer {
			e.slots[i].Fd = int32(l.raw.fd)
			e.slots[i].Events |= unix.POLLOUT
		}
	}
	n, _ := unix.Poll(e.slots, ms)
	return max(n, 0)
}

// pollable is what poll is to look for on this link.
func (l *link) pollable() unix.PollFd {
	if l.deaf.Load() || l.paused.Load() || l.parting.Load() {
		return unix.PollFd{Fd: -1}
	}
	return unix.PollFd{Fd: int32(l.raw.fd), Events: unix.POLLIN}
}

// watch makes passes while nobody leads, and sleeps in the kernel while there is nothing to do, until close.
func (e *engine) watch() {
	defer close(e.stopped)
	slots := make([]unix.PollFd, len(e.links)+1)
	timer := time.NewTimer(tick * time.Millisecond)
	defer timer.Stop()
	for !e.closed.Load() {
		e.mind()
		for i, l := range e.links {
			slots[i] = l.pollable()
		}
		slots[len(e.links)] = unix.PollFd{Fd: int32(e.bell), Events: unix.POLLIN}
		unix.Poll(slots, -1)
		e.hush(slots[len(e.links)])
		if e.leading.Load() {
			e.standBy(timer)
		} else if e.pass(false, false) {
			runtime.Gosched() // to whom the pass has woken
		}
	}
}

// standBy returns when watch is needed: somebody sleeps and nobody leads, or nobody has led for some ticks. It sleeps
// as goroutines do and not in the kernel, since the runtime looks every 20 us after those that do.
func (e *engine) standBy(timer *time.Timer) {
	e.standby.Store(true)
	defer e.standby.Store(false)
	for quiet := 0; quiet < naps && !e.closed.Load() && !e.needed.Swap(false); quiet++ {
		turns := e.turns.Load()
		timer.Reset(tick * time.Millisecond)
		select {
		case <-timer.C:
		case <-e.call:
		}
		if e.leading.Load() || e.turns.Load() != turns {
			quiet = 0
		}
	}
}

// ring ends watch's sleep, where it sleeps in the kernel.
func (e *engine) ring() { unix.Write(e.bell, toll) }

var toll = []byte{1, 0, 0, 0, 0, 0, 0, 0} // what an eventfd takes: a number to add

// hush takes back what ring did.
func (e *engine) hush(bell unix.PollFd) {
	if bell.Revents != 0 {
		var b [8]byte
		unix.Read(e.bell, b[:])
	}
}

// giveWay lets another process have the processor.
func giveWay() { unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// drain reads away what still comes on a link that has said goodbye, until its peer has, too, or until a time.
func (e *engine) drain(l *link, until time.Time) {
	l.in.mu.Lock() // a pass may be at it still; none begins
	l.in.mu.Unlock()
	b := make([]byte, 32<<10)
	for time.Now().Before(until) {
		_, err := l.raw.Read(b)
		switch err {
		case nil:
		case errAgain:
			one := [1]unix.PollFd{{Fd: int32(l.raw.fd), Events: unix.POLLIN}}
			unix.Poll(one[:], int(time.Until(until).Milliseconds())+1)
		default:
			return
		}
	}
}

// close ends watch and gives the sockets back. The links have said goodbye.
func (e *engine) close() {
	e.closed.Store(true)
	e.ring()
	e.wake()
	<-e.stopped
	for _, l := range e.links {
		l.writer <- struct{}{} // a Send under way has seen that the link closes
		l.in.mu.Lock()         // and no pass begins any more
		l.raw.close()
		l.in.over = true
		l.in.mu.Unlock()
		<-l.writer
	}
	unix.Close(e.bell)
}
