package comm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// Errors that a PeerError wraps as its Cause, or that stand alone.
var (
	ErrClosed  = errors.New("comm: group closed")                     // by this rank: Send, Recv and the collectives return it bare
	ErrTimeout = errors.New("timed out")                              // the group's timeout passed
	ErrLost    = errors.New("connection lost")                        // the peer is gone
	ErrLeft    = fmt.Errorf("%w: the peer closed the group", ErrLost) // the peer is gone and said goodbye
)

// CutOff is the fate of a link that this rank broke in the middle of a message because of cause: it wraps ErrLost and
// cause.
func CutOff(cause error) error {
	if errors.Is(cause, ErrLost) {
		return cause
	}
	return fmt.Errorf("%w: cut in the middle of a message: %w", ErrLost, cause)
}

// PeerError says that a peer is gone or stalled: who, in which operation, at which step, and how much was still owed.
type PeerError struct {
	Rank    Rank  // the peer that failed, AnyRank when a receive from anybody timed out, the giving-up rank when a context ended a collective half done
	Op      Op    // what was being done
	Step    int   // the training step, -1 when there is none
	Missing int64 // bytes that had not come (or gone) when the wait ended
	Cause   error // ErrTimeout, ErrLost, the context's cause, an error of the transport
}

// Error prints each fact once.
func (e *PeerError) Error() string {
	who := fmt.Sprintf("rank %d", e.Rank)
	if e.Rank == AnyRank {
		who = "every rank"
	}
	s := fmt.Sprintf("%s failed in %v", who, e.Op)
	if e.Step >= 0 {
		s += fmt.Sprintf(" at step %d", e.Step)
	}
	if e.Missing > 0 {
		s += fmt.Sprintf(", %d bytes missing", e.Missing)
	}
	return s + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *PeerError) Unwrap() error { return e.Cause }

// SizeError says that Recv's buffer is too short for the message, which is kept.
type SizeError struct {
	From       Rank
	Need, Have int
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("message of rank %d has %d bytes, the buffer %d", e.From, e.Need, e.Have)
}

// kinds are the causes that errors.Is still finds after a PeerError has crossed the wire. Their order is part of
// the format; 0 stands for any other. Where one wraps another, the narrower comes first.
var kinds = []error{nil, ErrTimeout, ErrLeft, ErrLost, ErrClosed, context.Canceled, context.DeadlineExceeded}

const maxCause = 1000 // bytes of a cause's text on the wire

// AppendPeerError appends e in the form in which a transport's Abort sends it: rank, op, step, missing bytes, kind
// and text of the cause, little endian, at most PeerErrorSize bytes.
func AppendPeerError(b []byte, e *PeerError) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(e.Rank))
	b = append(b, byte(e.Op))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Step))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Missing))
	kind := 0
	for i := 1; i < len(kinds) && kind == 0; i++ {
		if errors.Is(e.Cause, kinds[i]) {
			kind = i
		}
	}
	text := e.Cause.Error()
	return append(append(b, byte(kind)), text[:min(len(text), maxCause)]...)
}

// peerErrorFixed is what comes before the cause's text.
const peerErrorFixed = 4 + 1 + 8 + 8 + 1

// PeerErrorSize is the most that AppendPeerError appends.
const PeerErrorSize = peerErrorFixed + maxCause

// ParsePeerError reads what AppendPeerError wrote. The result keeps no part of b.
func ParsePeerError(b []byte) (*PeerError, error) {
	if len(b) < peerErrorFixed || len(b) > PeerErrorSize {
		return nil, fmt.Errorf("comm: a peer error has %d to %d bytes, not %d", peerErrorFixed, PeerErrorSize, len(b))
	}
	e := &PeerError{Rank: Rank(int32(binary.LittleEndian.Uint32(b))), Op: Op(b[4]),
		Step: int(int64(binary.LittleEndian.Uint64(b[5:]))), Missing: int64(binary.LittleEndian.Uint64(b[13:]))}
	kind, text := int(b[21]), string(b[peerErrorFixed:])
	switch {
	case e.Op >= numOps || kind >= len(kinds):
		return nil, fmt.Errorf("comm: a peer error of operation %d and kind %d; the last known are %d and %d", b[4], kind, numOps-1, len(kinds)-1)
	case kind > 0 && text == kinds[kind].Error():
		e.Cause = kinds[kind]
	default:
		e.Cause = &farCause{kinds[kind], text}
	}
	return e, nil
}

// farCause is a cause that a peer told: its words, and the kind that errors.Is finds.
type farCause struct {
	kind error
	text string
}

func (c *farCause) Error() string { return c.text }
func (c *farCause) Unwrap() error { return c.kind }
