package reduce

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/vec"
)

// hostileRules are one of each way, with codes of fixed and of varying length, feedback and without.
var hostileRules = []string{"uniform:8", "uniform:4+ef", "natural", "fp16", "onebit+ef", "qsgd:127,elias", "uniform:delta=0.5+ef",
	"topk:0.05+ef", "threshold:2", "uniform:4+ef21", "dgc:0.05", "randomk:0.1", "vote", "vote:momentum=0.5", "a: topk:0.05; b: bf16; c: float"}

func hostileLayout() model.Layout {
	return model.Layout{}.Add("a", 40, 30).Add("b", 1030).Add("c", 1100).Add("d", 5)
}

// hostile makes two ranks' reducers; what rank 1 sends goes through change, by the number of the message.
func hostile(tb testing.TB, text string, change func(i int, p []byte) []byte) (red [2]*Compressed, groups []comm.Group) {
	groups = inproc.New(2, 10*time.Second)
	rules, err := ParseRules(text)
	if err != nil {
		tb.Fatal(err)
	}
	tree := comm.NewTree(2, 2)
	for rank, g := range groups {
		if rank == 1 {
			g = &forger{Group: g, change: change}
		}
		red[rank] = NewCompressed(Config{Group: g, Tree: tree, Exact: &Exact{Group: g, Tree: tree}, Layout: hostileLayout(), Rules: rules, Seed: 3})
	}
	return red, groups
}

// forger changes what it sends.
type forger struct {
	comm.Group
	change func(i int, p []byte) []byte
	sent   int
}

func (f *forger) Send(ctx context.Context, to comm.Rank, tag comm.Tag, p []byte) error {
	p = f.change(f.sent, p)
	f.sent++
	return f.Group.Send(ctx, to, tag, p)
}

// sumBoth sums once and returns rank 0's sum, without its head, and error.
func sumBoth(red [2]*Compressed, groups []comm.Group) ([]float32, error) {
	n := hostileLayout().Len()
	x := [2][]float32{make([]float32, testHead+n), make([]float32, testHead+n)}
	for rank := range x {
		for i := range x[rank] {
			x[rank][i] = float32((i*7+rank*3)%41-20) / 8
		}
	}
	done := make(chan bool)
	go func() {
		red[1].Sum(context.Background(), Vector{Parts: x[1:], Head: testHead, Total: 4})
		groups[1].Close() // rank 0 waits for nothing more
		done <- true
	}()
	err := red[0].Sum(context.Background(), Vector{Parts: x[:1], Head: testHead, Total: 4})
	groups[0].Close()
	<-done
	return x[0][testHead:], err
}

// FuzzMessages brings bytes in the place of a peer's message, each way: the first, to the owner of a chunk, or the second, to
// all. A rank then has an error, or a sum of numbers; it never panics, nor has it room for more than the longest message.
// The numbers that go exactly are the peer's to choose: they are not looked at.
func FuzzMessages(f *testing.F) {
	for k, text := range hostileRules {
		red, groups := hostile(f, text, func(i int, p []byte) []byte {
			f.Add(uint8(k), uint8(i), append([]byte(nil), p...))
			f.Add(uint8(k), uint8(i), append([]byte(nil), p[:len(p)/2]...))
			return p
		})
		if _, err := sumBoth(red, groups); err != nil {
			f.Fatal(text, err)
		}
	}
	f.Fuzz(func(t *testing.T, k, which uint8, message []byte) {
		text := hostileRules[int(k)%len(hostileRules)]
		red, groups := hostile(t, text, func(i int, p []byte) []byte {
			if i == int(which)%2 {
				return message
			}
			return p
		})
		sum, err := sumBoth(red, groups)
		if err != nil {
			return
		}
		for i, s := range red[0].segments {
			if (s.lossy() || s.way == vote) && !vec.Finite(sum[s.Off:s.Off+s.Len]) {
				t.Fatalf("%s: segment %d of the sum is not finite", text, i)
			}
			if !vec.Finite(s.kept) || !vec.Finite(s.both) {
				t.Fatalf("%s: what is kept of segment %d is not finite", text, i)
			}
		}
		for rank, room := range red[0].room {
			if most := 5*4*(testHead+hostileLayout().Len()) + 1000; cap(room) > most {
				t.Fatalf("%s: room for %d bytes from rank %d", text, cap(room), rank)
			}
		}
	})
}

// A code whose numbers are finite and whose sum with another's is not ends the sum on all ranks.
func TestSumsThatOverflow(t *testing.T) {
	for _, text := range []string{"topk:0.05", "threshold:2", "uniform:4+ef21", "bf16", "topk:0.05+ef21"} {
		red, groups := hostile(t, text, func(_ int, p []byte) []byte { return p })
		var errs [2]error
		done := make(chan bool)
		for rank := range red {
			go func() {
				x := make([]float32, testHead+hostileLayout().Len())
				for i := range x[testHead:] {
					x[testHead+i] = 3e38
				}
				errs[rank] = red[rank].Sum(context.Background(), Vector{Parts: [][]float32{x}, Head: testHead, Total: 4})
				done <- true
			}()
		}
		<-done
		<-done
		for rank, err := range errs {
			if err == nil {
				t.Errorf("%s, rank %d: no error", text, rank)
			}
			groups[rank].Close()
		}
	}
}

// Bits behind the last vote are refused: no worker sets them.
func TestVotePadding(t *testing.T) {
	red, groups := hostile(t, "vote", func(i int, p []byte) []byte {
		if i == 1 { // the last votes are of the layout's last segment, 2 in each chunk or 3
			p = append([]byte(nil), p...)
			p[len(p)-2] |= 0x80
		}
		return p
	})
	if _, err := sumBoth(red, groups); err == nil {
		t.Error("no error")
	}
}

// A length that says more than there is, or than a code of so many elements has.
func TestLengthsAreChecked(t *testing.T) {
	for _, size := range []uint32{0, 1, 5000, 1 << 31, 1<<32 - 1} {
		red, groups := hostile(t, "topk:0.05", func(_ int, p []byte) []byte {
			p = append([]byte(nil), p...)
			binary.LittleEndian.PutUint32(p[4*(testHead+5):], size)
			return p
		})
		if _, err := sumBoth(red, groups); err == nil {
			t.Errorf("a length of %d: no error", size)
		}
	}
}

// A message that goes on behind its codes is refused, the first and the second, each way.
func TestBytesTooMany(t *testing.T) {
	for _, text := range hostileRules {
		messages := 0
		red, groups := hostile(t, text, func(_ int, p []byte) []byte { messages++; return p })
		if _, err := sumBoth(red, groups); err != nil {
			t.Fatal(text, err)
		}
		for which := range messages {
			red, groups := hostile(t, text, func(i int, p []byte) []byte {
				if i == which {
					p = append(p[:len(p)-1:len(p)-1], 0, p[len(p)-1])
				}
				return p
			})
			var peer *comm.PeerError
			if _, err := sumBoth(red, groups); !errors.As(err, &peer) || peer.Rank != 1 {
				t.Errorf("%s, message %d of %d: %v, expected rank 1's to be refused", text, which, messages, err)
			}
		}
		if messages == 0 {
			t.Errorf("%s: no message", text)
		}
	}
}
