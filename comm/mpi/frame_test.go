package mpi

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// FuzzFrame: no frame makes parse say more than is there, and what it takes is what put writes.
func FuzzFrame(f *testing.F) {
	for _, h := range []header{
		{frameMessage, 0, comm.MakeTag(comm.OpBarrier, 7), 3, 1 << 40},
		{frameAsk, 1<<32 - 1, 1, maxMessage, 0},
		{frameGrant, 9, 0, 0, 64},
		{frameAbort, 0, 0, 30, 0},
	} {
		b := make([]byte, HeaderBytes)
		h.put(b)
		if h.kind != frameAsk {
			b = append(b, make([]byte, h.size)...)
		}
		if got, payload, err := parse(b); err != nil || got != h || len(payload) != len(b)-HeaderBytes {
			f.Fatalf("%+v is read as %+v: %v", h, got, err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, payload, err := parse(b)
		if err != nil {
			return
		}
		if h.size < 0 || h.size > maxMessage || len(payload) > partBytes || h.kind != frameAsk && h.size != len(payload) {
			t.Fatalf("%+v with %d bytes", h, len(payload))
		}
		again := make([]byte, HeaderBytes)
		if h.put(again); !bytes.Equal(again, b[:HeaderBytes]) {
			t.Fatalf("%x is read as %+v, which is written as %x", b[:HeaderBytes], h, again)
		}
	})
}

// Frames whose lengths do not fit their kind are refused.
func TestFrameLengths(t *testing.T) {
	for _, c := range []struct {
		h      header
		follow int
	}{
		{header{kind: frameMessage, size: comm.EagerBytes + 1}, comm.EagerBytes + 1},
		{header{kind: framePart, size: partBytes + 1}, partBytes + 1},
		{header{kind: frameAsk, size: maxMessage + 1}, 0},
		{header{kind: frameAsk, size: 1 << 20}, 1},
		{header{kind: frameGrant, size: 1}, 1},
		{header{kind: frameMessage, size: 5}, 4},
		{header{kind: 0}, 0},
		{header{kind: numKinds}, 0},
	} {
		b := make([]byte, HeaderBytes+c.follow)
		c.h.put(b)
		if _, _, err := parse(b); err == nil {
			t.Errorf("%+v with %d bytes is taken", c.h, c.follow)
		}
	}
	for n := range HeaderBytes {
		if _, _, err := parse(make([]byte, n)); err == nil {
			t.Errorf("a frame of %d bytes is taken", n)
		}
	}
}

func TestOverhead(t *testing.T) {
	for _, c := range [][2]int{{0, 1}, {comm.EagerBytes, 1}, {comm.EagerBytes + 1, 1}, {partBytes, 1}, {partBytes + 1, 2}, {10 * partBytes, 10}} {
		if got := overhead(c[0]); got != c[1]*HeaderBytes {
			t.Errorf("%d bytes cost %d of headers, not those of %d frames", c[0], got, c[1])
		}
	}
}

// What Available says is what Init says, with or without MPI in the build.
func TestAvailable(t *testing.T) {
	switch err := Available(); {
	case err == nil:
		if Library() == "" {
			t.Error("MPI is there and has no name")
		}
		if _, err := Init(0); err == nil {
			t.Error("a group without a timeout is made")
		}
	case !errors.Is(err, ErrUnavailable):
		t.Errorf("Available says %v", err)
	default:
		if _, got := Init(time.Minute); got != err {
			t.Errorf("Init says %v, Available %v", got, err)
		}
		if err := Finalize(); err != nil {
			t.Errorf("ending what never began: %v", err)
		}
	}
}
