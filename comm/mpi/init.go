//go:build mpi && cgo

package mpi

// #include <stdlib.h>
// #include "engine.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/covey-ml/covey/comm"
)

// process is this process's use of the library, which begins once and ends once.
var process struct {
	sync.Mutex
	e     *engine
	err   error // why it did not begin, or that it has ended
	g     *group
	bound time.Duration // of the last Init
}

// Available tells why this transport cannot work here, or nil.
func Available() error { return nil }

// Init returns the group of all processes that mpirun started, with their MPI ranks, when all of them are there. timeout
// bounds that wait, and then every wait in the group. A process that was not started by mpirun is a group of one.
//
// One group at a time: when it is closed, on every process, Init makes another.
func Init(timeout time.Duration) (comm.Group, error) {
	if timeout <= 0 {
		return nil, fmt.Errorf("mpi: a timeout of %v: want one above zero", timeout)
	}
	process.Lock()
	defer process.Unlock()
	switch {
	case process.err != nil:
		return nil, process.err
	case process.g != nil && !process.g.Closed():
		return nil, errors.New("mpi: this process has a group already: close it before asking for the next")
	}
	end := time.Now().Add(timeout)
	if process.e == nil {
		if process.e, process.err = begin(timeout); process.err != nil {
			return nil, process.err
		}
	}
	process.bound = timeout
	e := process.e
	e.mu.Lock()
	e.groups++
	tag := e.groups % (e.tags + 1)
	e.mu.Unlock()
	g := e.open(comm.Rank(e.rank), e.size, timeout, func(r comm.Rank) route { return route{int(r), tag, int(r), tag} })
	g.world = true
	// Nobody sends before everybody can tell whose it is.
	if err := e.meet(end); err != nil {
		g.Close()
		process.err = fmt.Errorf("waiting for all %d processes: %w", e.size, err)
		return nil, process.err
	}
	process.g = g
	return g, nil
}

// Hosts returns the name of the host of each rank, as MPI says it, of a group that Init returned. Ranks of one host are
// neighbours unless mpirun was told to spread them.
func Hosts(g comm.Group) []string {
	if g, ok := g.(*group); ok && g.world {
		return append([]string(nil), g.e.hosts...)
	}
	return nil
}

// Finalize ends the process's use of MPI, when all processes have come here. Close the group before. It waits no longer
// than Init was told to; an error says that some process did not come, and that mpirun will take this one for failed.
func Finalize() error {
	process.Lock()
	defer process.Unlock()
	e := process.e
	if e == nil {
		return nil
	}
	process.e, process.err = nil, errors.New("mpi: Finalize was called; MPI begins only once in a process")
	close(e.stop)
	timer := time.NewTimer(process.bound + linger)
	defer timer.Stop()
	select {
	case err := <-e.stopped:
		return err
	case <-timer.C:
		return fmt.Errorf("mpi: MPI_Finalize has not returned: %w", comm.ErrTimeout)
	}
}

// begin starts the library on a thread of its own, which also ends it: MPI wants both on the same.
func begin(timeout time.Duration) (*engine, error) {
	e := &engine{stop: make(chan struct{}), stopped: make(chan error, 1), links: map[address]*link{}, owners: map[uint64]*link{},
		held: map[*link]bool{}}
	begun := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := e.begin()
		begun <- err
		if err != nil {
			return
		}
		e.watch()
		e.stopped <- e.finalize(time.Now().Add(timeout))
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case err := <-begun:
		return e, err
	case <-timer.C:
		return nil, fmt.Errorf("mpi: MPI_Init has not returned after %v: not all processes that mpirun was asked for have called it: %w", timeout, comm.ErrTimeout)
	}
}

func (e *engine) begin() error {
	var given, rank, size, tags C.int
	if code := C.covey_init(&given, &rank, &size, &tags); code != 0 {
		return failure("MPI_Init_thread", code)
	}
	e.rank, e.size, e.tags = int(rank), int(size), int(tags)
	if given < 2 {
		return fmt.Errorf("mpi: MPI_THREAD_SERIALIZED is needed, and the library gives MPI_THREAD_%s: it is %s", []string{"SINGLE", "FUNNELED"}[given], name())
	}
	if err := mismatch(e.size); err != nil {
		return err
	}
	const room = 256
	names := C.calloc(C.size_t(e.size), room)
	defer C.free(names)
	if code := C.covey_hosts((*C.char)(names), room); code != 0 {
		return failure("telling each other the hosts' names", code)
	}
	neighbours := 0
	for r := range e.size {
		e.hosts = append(e.hosts, C.GoString((*C.char)(unsafe.Add(names, r*room))))
	}
	for _, h := range e.hosts {
		if h == e.hosts[e.rank] {
			neighbours++
		}
	}
	e.spin, e.last = patience(neighbours), time.Now()
	return nil
}

// mismatch says so when mpirun started several processes and the library knows of one.
func mismatch(size int) error {
	for _, v := range []string{"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"} {
		if n, err := strconv.Atoi(os.Getenv(v)); err == nil && n > 1 && size == 1 {
			return fmt.Errorf("mpi: mpirun started %d processes (%s), and the library that this program was built with knows of one: "+
				"it is %s, and mpirun is another's; start it by that library's mpirun (mpirun.openmpi, mpirun.mpich) or build it with the other's mpicc", n, v, name())
		}
	}
	return nil
}

// name is the first line of Library, without what follows a comma.
func name() string {
	line, _, _ := strings.Cut(Library(), "\n")
	line, _, _ = strings.Cut(line, ",")
	return strings.Join(strings.Fields(line), " ")
}

// meet waits until all processes have come here.
func (e *engine) meet(end time.Time) error {
	e.mu.Lock()
	err := errStuck
	if !e.stuck {
		err = failure("MPI_Ibarrier", C.covey_meet())
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	return e.met(func() error {
		if time.Now().After(end) {
			return comm.ErrTimeout
		}
		return nil
	})
}

// met waits until the library's collective under way is over, or giveUp says why to wait no longer: then it stays under way
// for ever, and the library is of no use for another.
func (e *engine) met(giveUp func() error) error {
	for begun := time.Now(); ; {
		var over C.int
		e.mu.Lock()
		e.pass()
		err := failure("waiting for a collective", C.covey_met(&over))
		if e.last = time.Now(); err == nil && over == 0 {
			if err = giveUp(); err != nil {
				e.stuck = true
			}
		}
		e.mu.Unlock()
		if err != nil || over != 0 {
			return err
		}
		if waited := time.Since(begun); waited > driving {
			rest(waited)
		}
		C.covey_yield()
		runtime.Gosched()
	}
}

// finalize ends the library once everybody is there and everything has gone.
func (e *engine) finalize(end time.Time) error {
	if err := e.meet(end); err != nil {
		return fmt.Errorf("mpi: waiting for all %d processes to call Finalize: %w", e.size, err)
	}
	return failure("MPI_Finalize", C.covey_finalize())
}
