package shm

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/covey-ml/covey/comm"
)

// The layout, version 3. All numbers are little-endian; the words that change are only ever touched by atomics.
const (
	magic       = "COVEYSHM"
	version     = 3
	headerBytes = 4096
	arrivedAt   = 64 // in the header: a count that goes up when a rank attaches or gives up (futex)
	page        = 4096
	abortBytes  = 4 + comm.PeerErrorSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// slot is what one rank shares with all the others. Groups of words that different ranks write are 128 bytes apart:
// two cache lines, because processors fetch lines in pairs.
type slot struct {
	state atomic.Uint32 // one of the below
	pid   atomic.Uint32 // for messages only
	_     [120]byte
	bell  atomic.Uint32 // doorbell: a count that only goes up (futex)
	sleep atomic.Uint32 // 1 while nobody in that process looks at its rings, see engine
	_     [120]byte
	abort [abortBytes]byte // why the rank gave up its collectives; whole once a ring says aborted
	_     [2048 - 256 - abortBytes]byte
}

const (
	slotEmpty = iota
	slotHere
	slotClosed // it closed its group
	slotLeft   // it gave up before all had come; abort says why
)

// control is the state of the ring of one ordered pair of ranks. Positions count bytes since the beginning, so tail-head
// is what is in the ring, and never wrap in practice (2^64 bytes).
type control struct {
	tail  atomic.Uint64 // bytes written; the writer's
	want  atomic.Uint64 // the writer sleeps until head is here; 0 when it does not sleep
	said  atomic.Uint32 // what the writer has to say besides: the bits below
	_     [108]byte
	head  atomic.Uint64 // bytes read; the reader's
	taken atomic.Uint64 // of unasked messages, what the reader's mesh has taken, each counted as cost
	_     [112]byte
	asks  [maxAsks]atomic.Uint32 // what became of each frameAsk, by its number
}

// maxAsks is how many messages one writer may have waiting for leave. It fits the six bits of a frame.
const maxAsks = 64

// What becomes of an ask. The writer takes it from askFree to askMade and from askMade to askWithdrawn, the reader from
// askMade through askHeld to askGranted or back, and from askWithdrawn to askFree. What lies in the writer's arena stays there until the
// reader has taken askGranted to askTaken, or the writer, which then breaks the link, anything else to askWithdrawn: so the reader knows
// whether what it has copied is what was sent.
const (
	askFree      = iota
	askMade      // the reader is to find out who wants the message
	askHeld      // it is finding out: a few instructions
	askGranted   // the payload has a place and is to be written, or is being copied
	askWithdrawn // the writer gave up; the reader is to forget the ask
	askTaken     // the reader has all of the payload
)

// What a writer says.
const (
	saidAborted = 1 << iota // its slot holds the reason
	saidBroken              // the link is cut, maybe amid a message
	saidClosed              // goodbye
)

const (
	slotBytes    = int(unsafe.Sizeof(slot{}))
	controlBytes = int(unsafe.Sizeof(control{}))
	cellBytes    = (int(unsafe.Sizeof(comm.Cell{})) + 127) &^ 127
)

// layout says where things are in a file for n ranks.
type layout struct {
	Info
	slots, controls, rings        int // offsets in bytes
	cells, scratch, arenas, total int
}

func layoutOf(i Info) (layout, error) {
	l := layout{Info: i, slots: headerBytes}
	pairs := i.Size * (i.Size - 1)
	l.controls = l.slots + i.Size*slotBytes
	l.rings = (l.controls + pairs*controlBytes + page - 1) &^ (page - 1)
	if pairs > 0 && i.Ring > (math.MaxInt-l.rings)/pairs {
		return l, fmt.Errorf("shm: %d rings of %d bytes do not fit this system's address space", pairs, i.Ring)
	}
	l.cells = (l.rings + pairs*i.Ring + page - 1) &^ (page - 1)
	l.scratch = (l.cells + i.Size*cellBytes + page - 1) &^ (page - 1)
	l.arenas = (l.scratch + i.Size*comm.ScratchBytes + hugePage - 1) &^ (hugePage - 1)
	if i.Arena > (math.MaxInt-l.arenas)/i.Size {
		return l, fmt.Errorf("shm: %d arenas of %d bytes do not fit this system's address space", i.Size, i.Arena)
	}
	l.total = l.arenas + i.Size*i.Arena
	return l, nil
}

// pair numbers the ring that from writes and to reads.
func (l layout) pair(from, to int) int {
	if to > from {
		to--
	}
	return from*(l.Size-1) + to
}

func (l layout) slot(mem []byte, rank int) *slot {
	return (*slot)(unsafe.Pointer(&mem[l.slots+rank*slotBytes : l.slots+(rank+1)*slotBytes][0]))
}

func (l layout) control(mem []byte, from, to int) *control {
	at := l.controls + l.pair(from, to)*controlBytes
	return (*control)(unsafe.Pointer(&mem[at : at+controlBytes][0]))
}

func (l layout) ring(mem []byte, from, to int) []byte {
	at := l.rings + l.pair(from, to)*l.Ring
	return mem[at : at+l.Ring : at+l.Ring]
}

func arrived(mem []byte) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&mem[arrivedAt])) }

// encode returns the fixed part of the header.
func (l layout) encode() []byte {
	b := append(make([]byte, 0, arrivedAt), magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint32(b, uint32(l.Size))
	b = binary.LittleEndian.AppendUint64(b, uint64(l.Ring))
	b = binary.LittleEndian.AppendUint64(b, uint64(l.Arena))
	b = binary.LittleEndian.AppendUint64(b, l.Generation)
	b = binary.LittleEndian.AppendUint64(b, uint64(l.total))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// parseHeader reads what encode wrote, for a file of size bytes.
func parseHeader(b []byte, size int64) (layout, error) {
	const n = len(magic) + 4 + 4 + 8 + 8 + 8 + 8
	if len(b) < n+4 || string(b[:len(magic)]) != magic {
		return layout{}, fmt.Errorf("shm: not a file that Create made (%d bytes, no %q at its start)", size, magic)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return layout{}, fmt.Errorf("shm: the file has layout version %d, this program knows %d: start all workers from one binary", v, version)
	}
	if got, want := binary.LittleEndian.Uint32(b[n:]), crc32.Checksum(b[:n], castagnoli); got != want {
		return layout{}, fmt.Errorf("shm: the file's header is damaged (checksum %08x, want %08x)", got, want)
	}
	ranks, ring, arena := binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	generation, total := binary.LittleEndian.Uint64(b[32:]), binary.LittleEndian.Uint64(b[40:])
	o := Options{Ring: int(min(ring, maxRing+1)), Arena: int(min(arena, math.MaxInt))}
	if o.Arena == 0 {
		o.Arena = -1 // none, where 0 would be the default
	}
	if ranks > MaxRanks || o.Ring == 0 {
		return layout{}, fmt.Errorf("shm: the file's header names %d ranks and rings of %d bytes", ranks, ring)
	}
	if err := o.validate(int(ranks)); err != nil {
		return layout{}, err
	}
	if uint64(o.Arena) != arena {
		return layout{}, fmt.Errorf("shm: the file's header names arenas of %d bytes", arena)
	}
	l, err := layoutOf(Info{Size: int(ranks), Ring: o.Ring, Arena: o.Arena, Generation: generation})
	if err != nil {
		return layout{}, err
	}
	if uint64(l.total) != total || int64(l.total) != size {
		return layout{}, fmt.Errorf("shm: the file has %d bytes, its header says %d, and %d ranks with rings of %d bytes and arenas of %d need %d",
			size, total, l.Size, l.Ring, l.Arena, l.total)
	}
	return l, nil
}
