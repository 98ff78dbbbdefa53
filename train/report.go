package train

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/strategy"
)

// Report is what a run did. Times are means over the workers, in seconds; bytes are sums.
type Report struct {
	Accuracy      *float64          `json:"accuracy,omitempty"`   // on the test set, classification
	AUC           *float64          `json:"auc,omitempty"`        // on the test set, two classes
	TestLoss      *float64          `json:"test_loss,omitempty"`  // mean over the test set: of classes the log-loss, in nats
	RMSE          *float64          `json:"rmse,omitempty"`       // on the test set, regression
	Loss          float64           `json:"loss"`                 // mean training loss over the last epoch's steps, without regularisers
	Objective     *float64          `json:"objective,omitempty"`  // of the final parameters over the training set, for models that define one
	Steps         int               `json:"steps"`                // done in all
	Rounds        int               `json:"rounds,omitempty"`     // exchanges, in all, of a strategy that does not talk in every step
	Epochs        float64           `json:"epochs"`               // passes over the data, in all
	First         int               `json:"first_step,omitempty"` // steps that had been done when this process resumed the run
	Samples       int               `json:"samples"`              // used by this process's run
	Workers       int               `json:"workers"`
	Servers       int               `json:"servers,omitempty"` // ranks that serve the workers
	Pace          *Pace             `json:"pace,omitempty"`    // batch and rate at the end, of a run whose batch follows its workers
	Microshards   int               `json:"microshards"`
	Parameters    int               `json:"parameters"`
	SamplesPerSec float64           `json:"samples_per_s"`
	Wall          float64           `json:"wall_s"`         // training, testing and saving
	Compute       float64           `json:"compute_s"`      // gradients and updates
	Comm          float64           `json:"comm_s"`         // in reductions, hidden behind computation or not
	Wait          float64           `json:"wait_s"`         // computation waiting for reductions
	Codec         float64           `json:"codec_s"`        // of comm_s, encoding and decoding
	BytesSent     int64             `json:"bytes_sent"`     // payload and headers, all workers
	BytesExpected int64             `json:"bytes_expected"` // what the algorithms' closed forms say
	BytesExact    int64             `json:"bytes_exact"`    // what exact all-reduces in each of these steps send at least, as payload
	Payload       int64             `json:"bytes_payload"`
	Header        int64             `json:"bytes_header"`
	Control       int64             `json:"bytes_control"`
	Socket        *int64            `json:"bytes_socket,omitempty"` // counted at the sockets, plaintext side of TLS
	TLS           *int64            `json:"bytes_tls,omitempty"`    // the same bytes encrypted
	Cut           int64             `json:"bytes_cut,omitempty"`    // of bytes_socket, parts of messages that were never whole, for a worker was lost; below 0: not sent any more
	Unsent        int64             `json:"bytes_unsent,omitempty"` // of bytes_expected, not sent for the same reason
	Messages      int64             `json:"messages"`
	Ops           []OpSum           `json:"ops"`
	Ranks         []RankSum         `json:"ranks"`
	Serving       []strategy.Served `json:"serving,omitempty"`       // what servers did
	Ended         string            `json:"ended,omitempty"`         // why training came to its end by itself
	SamplesBooked string            `json:"sample_ledger,omitempty"` // of the last epoch that ended
	Weights       string            `json:"weights_sha256"`          // empty in a run for times alone
	SaveError     string            `json:"save_error,omitempty"`    // why the last checkpoint could not be written

	own share // the worker's that made the report
}

// OpSum is the ledger's sum for one operation over all workers and steps.
type OpSum struct {
	Op       string `json:"op"`
	Messages int64  `json:"messages"`
	Payload  int64  `json:"payload"`
	Header   int64  `json:"header"`
	Control  int64  `json:"control"`
	Expected int64  `json:"expected"`
}

// RankSum is one worker's part in the run.
type RankSum struct {
	Rank          int     `json:"rank"`
	BytesSent     int64   `json:"bytes_sent"`
	BytesExpected int64   `json:"bytes_expected"`
	Compute       float64 `json:"compute_s"`
	Comm          float64 `json:"comm_s"`
	Wait          float64 `json:"wait_s"`
}

// share is what one worker brings to the report.
type share struct {
	Times  strategy.Times
	Wall   float64
	Books  comm.Books
	Wired  bool
	Socket int64
	TLS    int64
	Cut    int64
	Unsent int64
	Served *strategy.Served `json:",omitempty"`
}

// totals is what all workers' shares come to.
type totals struct {
	Wall, Compute, Comm, Wait, Codec float64
	Books                            comm.Books
	Socket, TLS                      *int64
	Cut, Unsent                      int64
	Serving                          []strategy.Served
	Ranks                            []byte // as packed makes them
}

func total(all []share) (t totals, err error) {
	n := float64(len(all))
	for r, s := range all {
		own := s.Books.Sum()
		k := RankSum{r, own.Payload + own.Header, own.Expected, s.Times.Compute.Seconds(), s.Times.Comm.Seconds(), s.Times.Wait.Seconds()}
		t.Ranks = packed(t.Ranks, k)
		t.Wall = max(t.Wall, s.Wall)
		t.Compute += k.Compute / n
		t.Comm += k.Comm / n
		t.Wait += k.Wait / n
		t.Codec += s.Times.Codec.Seconds() / n
		t.Books.Add(&s.Books)
		t.Cut, t.Unsent = t.Cut+s.Cut, t.Unsent+s.Unsent
		if s.Served != nil {
			t.Serving = append(t.Serving, *s.Served)
		}
		if s.Wired {
			t.Socket, t.TLS = sumInto(t.Socket, s.Socket), sumInto(t.TLS, s.TLS)
		}
	}
	return t, nil
}

// packedBytes is what a rank takes: thousands of ranks read of each other what rank 0 packs.
const packedBytes = 5 * 8

// packed appends all of k but its number.
func packed(b []byte, k RankSum) []byte {
	for _, v := range [...]uint64{uint64(k.BytesSent), uint64(k.BytesExpected), math.Float64bits(k.Compute), math.Float64bits(k.Comm), math.Float64bits(k.Wait)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// unpacked is the inverse for ranks from 0 on.
func unpacked(b []byte) []RankSum {
	all := make([]RankSum, len(b)/packedBytes)
	for r := range all {
		word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[r*packedBytes+8*i:]) }
		all[r] = RankSum{r, int64(word(0)), int64(word(1)), math.Float64frombits(word(2)), math.Float64frombits(word(3)), math.Float64frombits(word(4))}
	}
	return all
}

// report adds all workers' shares up, the same on each.
func (r *run) report(ctx context.Context) (*Report, error) {
	me := share{Times: r.times, Wall: (r.g.Clock().Now() - r.began).Seconds(), Books: r.ledger.Totals()}
	if s, ok := r.strategy.(strategy.Teller); ok {
		me.Served = s.Served()
	}
	if w, ok := r.g.(comm.Wire); ok {
		me.Wired = true
		me.Socket, _, me.TLS = w.Wired()
		me.Books[comm.OpControl].Control += w.Controlled()
	}
	if r.kept != nil {
		before := r.kept.wire
		me.Socket, me.TLS, me.Cut, me.Unsent = me.Socket+before.Socket, me.TLS+before.TLS, before.Cut, before.Unsent
		me.Books[comm.OpControl].Control += before.Control
	}
	// What takes long comes before the workers meet for the last time: then they also end together.
	var objective *float64
	if o, ok := r.c.Model.(model.Objective); ok && !comm.IsHollow(r.g) && (r.g.Rank() == 0 || !r.c.sameData) {
		v := o.Objective(r.w.X, r.c.Train)
		objective = &v
	}
	t, err := decide(ctx, r.g, me, total)
	if err != nil {
		return nil, err
	}
	p := &Report{Loss: r.loss, Objective: objective, First: r.first, Steps: r.step, Rounds: r.rounds, Epochs: float64(r.epoch) + float64(r.used)/float64(r.c.Train.Len()), Samples: r.samples,
		Workers: r.workers, Servers: r.g.Size() - r.workers, Pace: r.paceInForce(), Microshards: r.c.Microshards, Parameters: r.size, own: me}
	if p.Weights, err = r.weights(ctx); err != nil {
		return nil, err
	}
	p.sum(t)
	p.BytesExact = 2 * int64(r.workers-1) * 4 * int64(len(r.w.Frame)) * int64(r.step-r.first)
	if r.last != nil {
		p.setTest(r.last)
		p.SamplesBooked = r.last.Booked()
	}
	if r.saveErr != nil {
		p.SaveError = r.saveErr.Error()
	}
	return p, nil
}

// sum enters what all workers' shares come to.
func (p *Report) sum(t totals) {
	p.Wall, p.Compute, p.Comm, p.Wait, p.Codec, p.Socket, p.TLS = t.Wall, t.Compute, t.Comm, t.Wait, t.Codec, t.Socket, t.TLS
	p.Serving, p.Cut, p.Unsent = t.Serving, t.Cut, t.Unsent
	p.Ops, p.Ranks = nil, unpacked(t.Ranks)
	for op, e := range t.Books {
		if e != (comm.Entry{}) {
			p.Ops = append(p.Ops, OpSum{comm.Op(op).String(), e.Messages, e.Payload, e.Header, e.Control, e.Expected})
		}
	}
	sum := t.Books.Sum()
	p.Messages, p.Payload, p.Header, p.Control, p.BytesExpected = sum.Messages, sum.Payload, sum.Header, sum.Control, sum.Expected
	p.BytesSent = sum.Payload + sum.Header
	if p.Wall > 0 {
		p.SamplesPerSec = float64(p.Samples) / p.Wall
	}
}

func sumInto(p *int64, v int64) *int64 {
	if p != nil {
		v += *p
	}
	return &v
}

func (p *Report) setTest(e *EpochInfo) {
	m := e.Test
	if m.N == 0 {
		return
	}
	loss := m.Loss / float64(m.N)
	p.TestLoss, p.Accuracy, p.AUC = &loss, e.Accuracy, m.AUC
	if e.Accuracy == nil {
		rmse := rootMean(m.SqErr, m.N)
		p.RMSE = &rmse
	}
}

// Booked says in words what the sample ledger found.
func (e EpochInfo) Booked() string {
	if e.Unbooked {
		return fmt.Sprintf("epoch %d: samples were not booked, for times alone were asked for", e.Epoch)
	}
	if e.Exactly {
		return fmt.Sprintf("epoch %d: each sample used exactly once", e.Epoch)
	}
	if len(e.Missing)+len(e.Repeated) == 0 {
		return fmt.Sprintf("epoch %d: it is not over", e.Epoch)
	}
	return fmt.Sprintf("epoch %d: samples not used %v, used more than once %v", e.Epoch, e.Missing, e.Repeated)
}
