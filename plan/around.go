package plan

import (
	"encoding/binary"
	"math/bits"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
)

// What travels as text, in bytes, about.
const (
	textMetrics = 60  // of one block of samples
	textWrap    = 12  // around what rank 0 tells
	textBooks   = 57  // that nothing is missing from the sample books
	textShare   = 920 // of one worker in the report
	bytesShare  = 54  // of it, as rank 0 tells it to all
	whyText     = "text is as long as the digits of its numbers"
)

// around writes the lines of what a run says beside training: when workers meet, close the sample books, test, save and report.
func (b *builder) around() {
	if b.scene.Workers == 1 {
		return
	}
	c, p := b.o.Config, b.scene.Workers
	hello := make([]int, p)
	for r := range hello {
		hello[r] = framed(b.o.Hello)
	}
	b.agree(Start, "settings", "once", 1, hello, false, b.o.Answer, "")
	whole := b.o.Steps%b.o.StepsPerEpoch == 0
	books := func(phase Phase, when string, times int) {
		held := make([]int, p)
		for r := range held {
			held[r] = 16 * ((c.Train.Len() + 63) / 64)
		}
		why := whyText
		if !whole {
			why = "the first samples that were not used are listed"
		}
		b.agree(phase, "sample books", when, times, held, true, textBooks, why)
	}
	books(EpochEnds, "each epoch", b.o.Epochs)
	if c.Test != nil {
		b.results(EpochEnds, "test results", "each test", b.o.Tests, b.o.TestBlocks)
	}
	if c.Dir != "" {
		books(Saves, "each checkpoint", b.o.Saves)
	}
	share := make([]int, p)
	for r := range share {
		share[r] = framed(textShare)
	}
	b.agree(End, "report", "once", 1, share, false, textShare+bytesShare*p+2*textWrap, whyText)
}

// results is how workers tell each other what they measured on their blocks of samples.
func (b *builder) results(phase Phase, what, when string, times, blocks int) {
	said := make([]int, b.scene.Workers)
	for r := range said {
		lo, hi := 0, 0
		if workers := b.o.Tree.Ranks() - b.o.Servers; r < workers {
			lo, hi = data.Slice(r, workers, blocks)
		}
		said[r] = framed(2 + textMetrics*(hi-lo))
	}
	b.agree(phase, what, when, times, said, false, textMetrics+textWrap, whyText)
}

// framed is n bytes with their number in front.
func framed(n int) int {
	var b [binary.MaxVarintLen64]byte
	return binary.PutUvarint(b[:], uint64(n)) + n
}

// agree is how workers agree by way of rank 0: what each brings, whose bytes are given by rank, goes up a binomial tree, merged
// or one after the other, and told bytes, as text, come back down. why is why their number is not exact; empty: it is.
func (b *builder) agree(phase Phase, what, when string, times int, brings []int, merged bool, told int, why string) {
	up := b.gathered(brings, merged)
	if !merged {
		up.Exact, up.Why = why == "", why
	}
	down, answer := b.broadcast("down", nil, 8), b.broadcast("down", nil, told)
	for r := range down.sent {
		down.sent[r].add(answer.sent[r], 1)
	}
	down.Rounds, down.Busiest, down.Latency, down.Bandwidth = 2*down.Rounds, down.Busiest+answer.Busiest, 2*down.Latency, down.Bandwidth+answer.Bandwidth
	down.Exact, down.Why = why == "", why
	down.Formula = "2 ceil(log2 P) rounds, 2(P-1) messages: a length of 8 bytes, and what was decided"
	b.put(phase, what, when, times, up, down)
}

// gathered is what workers bring to rank 0, up a binomial tree, merged or one after the other.
func (b *builder) gathered(brings []int, merged bool) Line {
	p := b.scene.Workers
	depth := bits.Len(uint(p - 1))
	up := Line{What: "up", op: comm.OpGather, How: "binomial tree", Formula: "2 ceil(log2 P) rounds, 2(P-1) messages: a length of 8 bytes, and what the ranks below bring",
		Exact: merged, Rounds: 2 * depth, sent: make([]Sent, p)}
	sum := make([]int, p+1)
	for r, n := range brings {
		sum[r+1] = sum[r] + n
	}
	for r := 1; r < p; r++ {
		held := brings[r]
		if !merged {
			held = sum[min(r+r&-r, p)] - sum[r]
		}
		up.sent[r] = b.sentOf(comm.GatherBytesBill(held), false)
		up.Busiest = max(up.Busiest, up.sent[r].Payload)
	}
	if !merged {
		up.Busiest = int64(sum[p] - brings[0])
	} else {
		up.Busiest *= int64(depth) // rank 0 has one from each of its children
	}
	up.Latency, up.Bandwidth = b.along(up.Rounds, up.Busiest)
	return up
}

// along is what rounds and the bytes of the busiest worker take, from worker to worker wherever they are.
func (b *builder) along(rounds int, bytes int64) (latency, bandwidth float64) {
	costs := b.scene.Costs
	if len(b.scene.Hosts) > 1 {
		return float64(rounds) * costs.Far.Alpha, (costs.Beta + costs.Far.Beta) * float64(bytes)
	}
	return float64(rounds) * costs.Alpha, costs.Beta * float64(bytes)
}
