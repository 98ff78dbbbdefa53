package shm

import (
	"context"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"github.com/covey-ml/covey/comm"
	"golang.org/x/sys/unix"
)

// memory is the part of the file that collectives read and write directly: the ranks' cells, their scratch and their
// arenas. It implements comm.Memory for one rank.
//
// The arenas are a mapping of their own, through a descriptor of their own, so that what this rank took from its arena
// can stay when the group is closed, while the lock that says that the rank lives goes with the engine's file.
type memory struct {
	layout
	rank   comm.Rank
	mem    []byte // the engine's
	file   *os.File
	arenas []byte  // of all ranks
	own    uintptr // where this rank's begins, 0 when there are none: an address alone, which any goroutine may read

	// held is locked for the length of a collective, and to let go of the memory.
	held sync.Mutex
	gone bool // guarded by held

	mu   sync.Mutex // guards what follows
	used int        // of this rank's arena, in bytes
	shut bool
}

var _ comm.Memory = (*memory)(nil)

func mapArenas(f *os.File, l layout, mem []byte, rank comm.Rank) (*memory, error) {
	m := &memory{layout: l, rank: rank, mem: mem, file: f}
	if l.Arena == 0 || l.Size == 1 {
		return m, nil
	}
	own, err := reopen(f)
	if err != nil {
		return nil, err
	}
	defer own.Close()
	size := l.Size * l.Arena
	p, err := unix.MmapPtr(int(own.Fd()), int64(l.arenas), nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("shm: mapping %d arenas of %d bytes: %w (Options.Arena makes them smaller)", l.Size, l.Arena, err)
	}
	m.arenas = unsafe.Slice((*byte)(p), size)
	m.own = uintptr(unsafe.Pointer(&m.arena(rank)[0]))
	return m, nil
}

// arena returns that of a rank.
func (m *memory) arena(r comm.Rank) []byte {
	at := int(r) * m.Arena
	return m.arenas[at : at+m.Arena : at+m.Arena]
}

// alloc implements comm.Allocator. The pages are there when it returns: a machine that has no more memory makes a nil
// here, not a signal later.
func (m *memory) alloc(n int) []float32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shut || m.arenas == nil || n < 1 || n > (m.Arena-m.used)/4 {
		return nil
	}
	size, align := 4*n, 64
	if size >= hugePage {
		align = hugePage
	}
	at := (m.used+align-1)&^(align-1) + stagger(m.rank)
	if at > m.Arena-size {
		return nil
	}
	arena := m.arena(m.rank)
	lo, hi := at&^(page-1), (at+size+page-1)&^(page-1)
	if size >= hugePage {
		// No more than a wish: without such pages all goes as well, if slower.
		unix.Madvise(arena[lo:min((hi+hugePage-1)&^(hugePage-1), m.Arena)], unix.MADV_HUGEPAGE)
	}
	err := unix.Madvise(arena[lo:hi], unix.MADV_POPULATE_WRITE)
	if err == unix.EINVAL { // before Linux 5.14
		err = unix.Fallocate(int(m.file.Fd()), 0, int64(m.arenas0()+lo), int64(hi-lo))
	}
	if err != nil {
		return nil
	}
	m.used = at + size
	return unsafe.Slice((*float32)(unsafe.Pointer(&arena[at])), n)
}

// stagger moves the vectors of different ranks apart within a page. Loads and stores whose addresses agree in their low
// twelve bits look alike to a processor that has not yet translated them, and wait for each other.
func stagger(r comm.Rank) int { return int(bits.Reverse8(uint8(r)<<5)) << 9 & 0xfff }

// arenas0 is where this rank's arena begins in the file.
func (m *memory) arenas0() int { return m.layout.arenas + int(m.rank)*m.Arena }

// close lets go of the arenas, but for what alloc gave from this rank's: that stays until the process ends.
func (m *memory) close() error {
	m.held.Lock()
	m.gone = true
	m.held.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shut = true
	if m.arenas == nil {
		return nil
	}
	first := int(m.rank) * m.Arena
	last := first + (m.used+page-1)&^(page-1)
	if m.used == 0 {
		first, last = len(m.arenas), len(m.arenas)
	}
	var err error
	for _, part := range [][]byte{m.arenas[:first], m.arenas[last:]} {
		if len(part) > 0 && err == nil {
			err = unix.MunmapPtr(unsafe.Pointer(&part[0]), uintptr(len(part)))
		}
	}
	m.arenas = nil
	return err
}

func (m *memory) Cell(r comm.Rank) *comm.Cell {
	at := m.cells + int(r)*cellBytes
	return (*comm.Cell)(unsafe.Pointer(&m.mem[at : at+cellBytes][0]))
}

func (m *memory) Scratch(r comm.Rank) []byte {
	at := m.scratch + int(r)*comm.ScratchBytes
	return m.mem[at : at+comm.ScratchBytes : at+comm.ScratchBytes]
}

// outside is what a rank writes for a vector that is not in its arena; else it writes its offset there and one, and 0
// for none.
const outside = 1<<64 - 1

// offset is where in this rank's arena p lies, if it does.
func (m *memory) offset(p []byte) (at uint64, ok bool) {
	if len(p) == 0 || m.own == 0 {
		return 0, false
	}
	off := uintptr(unsafe.Pointer(&p[0])) - m.own
	return uint64(off), off < uintptr(m.Arena) && uintptr(len(p)) <= uintptr(m.Arena)-off
}

// at is n bytes of a rank's arena, or nil where it does not have them.
func (m *memory) at(r comm.Rank, at uint64, n int) []byte {
	if at > uint64(len(m.arenas)/m.Size) || uint64(n) > uint64(m.Arena)-at {
		return nil
	}
	return m.arena(r)[at : at+uint64(n)]
}

func (m *memory) Publish(slot int, p []byte) bool {
	at := uint64(0)
	if len(p) > 0 {
		off, ok := m.offset(p)
		if at = off + 1; !ok {
			at = outside
		}
	}
	m.Cell(m.rank).At[slot].Store(at)
	return at != outside
}

func (m *memory) View(r comm.Rank, slot, n int) ([]byte, error) {
	at := m.Cell(r).At[slot].Load()
	switch {
	case at == outside:
		return nil, nil
	case at == 0:
		return nil, fmt.Errorf("it names no vector where one of %d bytes belongs: %w", n, errCell)
	}
	at--
	p := m.at(r, at, n)
	if at%4 != 0 || p == nil {
		return nil, fmt.Errorf("it names a vector of %d bytes at %d of an arena of %d: %w", n, at, m.Arena, errCell)
	}
	return p, nil
}

func (m *memory) Park(_ context.Context, seen uint32, d time.Duration) {
	runtime.Gosched() // a rank that is a goroutine of this process may be the one that is waited for
	futexWait(&m.Cell(m.rank).Bell, seen, d)
}

func (m *memory) Ring(r comm.Rank) { futexWake(&m.Cell(r).Bell) }

// Pause implements comm.Memory. It gives way to processes only: Gosched wakes a thread that looks for a goroutine to run,
// which takes the processor from the very peer that is waited for. Goroutines get their turn in Park.
func (m *memory) Pause() { giveWay() }

func (m *memory) Hold() bool {
	m.held.Lock()
	if m.gone {
		m.held.Unlock()
		return false
	}
	return true
}

func (m *memory) Release() { m.held.Unlock() }
