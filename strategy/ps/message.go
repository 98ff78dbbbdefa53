package ps

import (
	"encoding/binary"
	"fmt"
	"math"
)

// A request is a header of headBytes and, of a push, the elements of the server's range of each of the worker's parts, in
// order. With tables a message of rows (rows.go) follows a push. The reply is the range's elements of the parameters, or, when
// its length is odd, a refusal in words. All is little endian.
//
//	0  uint32  magic        20  uint32  number of parts
//	4  uint8   kind         24  float32 rate
//	5  uint8   flags        28  uint32  samples of the push
//	8  uint32  generation   32  uint32  samples of the step's global batch
//	                        36  uint32  microshard
//	12 uint32  step         40  uint64  first element of the range, in the frame
//	16 uint32  steps        48  uint64  its end
//	                        56  float32 factor of the sum, of a copy
//	                        60  uint32  number of the update, of a copy
const (
	headBytes  = 64
	headFloats = headBytes / 4
	magic      = 0x31535043 // "CPS1"
)

// The kinds of request.
const (
	push   uint8 = iota + 1 // the gradient of a step, or of the last few; the reply says that the next step may start, and with which parameters
	fetch                   // no gradient, and the same reply
	meet                    // the worker has come to a step at whose end all meet; no reply where pushes are held
	ask                     // of server 0: which microshard comes next; the reply is its step and number, two uint32
	shut                    // a server tells another whose pushes of a step count: a bit for each worker follows; no reply
	copied                  // a server tells who keeps a copy of its range what it adds to it: a sum, of the microshards from leaf on, as many as parts says
	read                    // of a server's rows of tables: rows follow, table after table; the reply is their numbers, by themselves
)

// The flags of a request.
const (
	flagStop   = 1 << iota // of meet: this is the end
	flagSilent             // of push: no reply
	flagShare              // of push: it is its share of a step of all, and not a step
	flagLeaf               // of push: it is of one microshard alone, and others of the same step follow; no reply
)

type request struct {
	kind       uint8
	flags      uint8
	generation uint32
	step       int // the sender has finished so many
	steps      int // of push: it has the gradient of the last so many; of others 0
	leaf       int // of push, where it is of one microshard: which
	parts      int
	rate       float32
	samples    int
	total      int
	lo, hi     int
	mean       float32
	update     int
	length     int // of all of it, in bytes
}

func (r *request) encode(b []byte) {
	clear(b[:headBytes])
	le := binary.LittleEndian
	le.PutUint32(b, magic)
	b[4], b[5] = r.kind, r.flags
	le.PutUint32(b[8:], r.generation)
	le.PutUint32(b[12:], uint32(r.step))
	le.PutUint32(b[16:], uint32(r.steps))
	le.PutUint32(b[20:], uint32(r.parts))
	le.PutUint32(b[24:], math.Float32bits(r.rate))
	le.PutUint32(b[28:], uint32(r.samples))
	le.PutUint32(b[32:], uint32(r.total))
	le.PutUint32(b[36:], uint32(r.leaf))
	le.PutUint64(b[40:], uint64(r.lo))
	le.PutUint64(b[48:], uint64(r.hi))
	le.PutUint32(b[56:], math.Float32bits(r.mean))
	le.PutUint32(b[60:], uint32(r.update))
}

// decode reads the header of a request. Its numbers are none that an int does not hold; what they say is not checked.
func (r *request) decode(b []byte) error {
	le := binary.LittleEndian
	switch {
	case len(b) < headBytes:
		return fmt.Errorf("a request of %d bytes: its header alone has %d", len(b), headBytes)
	case le.Uint32(b) != magic:
		return fmt.Errorf("a request that begins with %#x and not %#x: it is of something else, or of another version", le.Uint32(b), uint32(magic))
	case b[4] < push || b[4] > read:
		return fmt.Errorf("a request of kind %d: there are %d to %d", b[4], push, read)
	}
	for _, at := range []int{12, 16, 20, 28, 32, 36, 60} {
		if n := le.Uint32(b[at:]); n > math.MaxInt32 {
			return fmt.Errorf("a request with %d at byte %d of its header: at most %d", n, at, math.MaxInt32)
		}
	}
	if lo, hi := le.Uint64(b[40:]), le.Uint64(b[48:]); lo > hi || hi > math.MaxInt {
		return fmt.Errorf("a request of elements %d to %d", lo, hi)
	}
	*r = request{kind: b[4], flags: b[5], generation: le.Uint32(b[8:]), step: int(le.Uint32(b[12:])), steps: int(le.Uint32(b[16:])), parts: int(le.Uint32(b[20:])),
		rate: math.Float32frombits(le.Uint32(b[24:])), samples: int(le.Uint32(b[28:])), total: int(le.Uint32(b[32:])), leaf: int(le.Uint32(b[36:])),
		lo: int(le.Uint64(b[40:])), hi: int(le.Uint64(b[48:])),
		mean: math.Float32frombits(le.Uint32(b[56:])), update: int(le.Uint32(b[60:])), length: len(b)}
	return nil
}

// refusalBytes bounds a refusal.
const refusalBytes = 256

// refusal is the reply that says why a request was not taken, in at most so many bytes.
func refusal(why string, most int) []byte {
	b := []byte(why)
	if len(b) > most {
		b = b[:most]
	}
	if len(b)%2 == 0 {
		if len(b) < most {
			return append(b, '.')
		}
		b = b[:len(b)-1]
	}
	return b
}
