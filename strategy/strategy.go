// Package strategy decides when workers talk and what they say. Each family is a folder: allreduce (every step, the
// sum of gradients), ps (the same by way of servers, and without waiting for everybody), local (now and then, how far replicas have moved by themselves), convex (solvers of the linear
// models: the sums of a whole pass over the data), direct (once, the sums of a closed-form solution) and hogwild (never: they
// change one vector).
package strategy

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/spec"
)

// Strategy does one step of training on one worker. A worker has its own, and calls it from one goroutine.
type Strategy interface {
	// Step takes w's microshards of this step, moves w.X, and says what happened. After an error w.X is undefined, but for an Undoer's.
	Step(ctx context.Context, w *Worker) (Report, error)
	// String is the strategy's name, with all that decides its bits: a checkpoint of another one is not gone on from.
	String() string
	ckpt.Stateful
}

// Gatherer is asked for at run time: a Strategy that leaves state of w's optimizer with one worker alone. Gather brings
// it to all, between steps, before a checkpoint is written or another strategy goes on. It is a collective.
type Gatherer interface {
	Gather(ctx context.Context, w *Worker) error
}

// Preparer is asked for at run time: a Strategy that must know its worker before it can take the state of a checkpoint.
// train calls Prepare once, before anything else; w.X does not hold parameters yet. A Preparer makes optimizers of its own
// (w.NewOptimizer) and may set w.Optimizer to nil: train then keeps none.
type Preparer interface {
	Prepare(w *Worker) error
}

// Settler is asked for at run time: a Strategy whose exchange may go on between steps. Settle waits until the group is
// free for others; what the exchange brought is put to use when it is due, not earlier. When ctx ends before, the exchange
// is given up.
type Settler interface {
	Settle(ctx context.Context) error
}

// Checker is asked for at run time: a Strategy whose replicas have parameters of their own. Finite tells whether those of
// this worker are numbers that a checkpoint may hold.
type Checker interface {
	Finite() bool
}

// Undoer is asked for at run time: a Strategy whose Step, when w.Undo is set and it fails, leaves w.X and the optimizer as they
// were before.
type Undoer interface{ Undoes() }

// Serving is asked for at run time: a Strategy that has the last so many ranks of a group serve the others. They own no
// microshards, and their w.X does not hold all parameters.
type Serving interface {
	Servers() int
	// Loose tells whether a worker may ask for any microshard of a step, or leave some out.
	Loose() bool
}

// Keeper is asked for at run time: a Strategy that can keep the tables of a model.Sparse itself, out of the flat vector. train
// calls Keep once, before all else, and the collectives between steps, when the strategy has settled.
type Keeper interface {
	// Keep returns the model that is trained in m's place: m itself, when the strategy keeps nothing of it (and then nothing more is
	// asked of it), or one whose flat
	// vector is the dense parameters. rule and seed are the job's, for rows.
	Keep(m model.Model, rule *spec.Spec, seed uint64) (model.Model, error)
	// Reading runs f, in which the model may be evaluated, on ranks that compute, while the others give them what they need. It is
	// a collective.
	Reading(ctx context.Context, f func() error) error
	// Large says why the tables are too large for one rank to have them all: then Streams and LoadStreams are asked, and neither Tables
	// nor Blank nor SetTables. nil: they are not.
	Large() error
	// Streams write this rank's rows, with what else there is of them, as they are while they write; nil: it has none.
	Streams() []ckpt.Stream
	// LoadStreams takes the rows that this rank is to have out of what Streams have written on all ranks of an earlier group: read calls f
	// with each, and its number among its rank's, and is not called where there is nothing to take.
	LoadStreams(read func(f func(i int, r io.Reader) error) error) error
	// Tables brings all rows to rank 0 and returns them there as tensors, one a table; elsewhere nil. State then has what else
	// there is of rows. It is a collective.
	Tables(ctx context.Context) ([]ckpt.Tensor, error)
	// Blank returns zeroed tensors of the tables' shapes, to be filled for SetTables.
	Blank() []ckpt.Tensor
	// SetTables takes tables as Tables gave them, once Load has taken the state that went with them.
	SetTables(ts []ckpt.Tensor) error
	// Close gives back what rows take, in memory and on disk.
	Close() error
}

// Survivor is asked for at run time: a Strategy whose ranks have the parameters and the optimizer's state in parts, each on more
// ranks than one, so that a run can go on when some are lost. Of others train keeps what is needed itself.
type Survivor interface {
	Strategy
	// Standing is what this rank knows of the run, for Revive on other ranks. It is asked once the rank's group has ended.
	Standing() any
	// Revive takes up a run whose group has ended, on a new one, after Prepare: w.Frame becomes the parameters, where this rank uses
	// them, and its part of the optimizer's state comes to it. all are the standings, as JSON, of each rank's strategies of earlier
	// groups, the newest first, and before those strategies of this rank. It is a collective. It returns nil when there is no whole
	// state; the run then begins from a checkpoint or afresh.
	Revive(ctx context.Context, w *Worker, before []Strategy, all [][]json.RawMessage) (*Revived, error)
}

// Revived is what a run goes on from.
type Revived struct {
	// Done is by microshard how many steps are in the parameters. The run goes on after the least of them; the strategy leaves out of
	// the steps that follow what is there already.
	Done []int
	// Regular is the step, from 0, from which on this is nothing: all microshards are asked for, in their order.
	Regular int
	Notes   []string
}

// Served is what a server did.
type Served struct {
	Rank     int `json:"rank"`
	Elements int `json:"elements"` // of the parameters
	Pushes   int `json:"pushes"`   // taken
	// Microsteps is how many steps of microshards are in its parameters, in all the run, where that is known: their product, if each was
	// added once.
	Microsteps int `json:"microsteps,omitempty"`
	Copies     int `json:"copies,omitempty"` // of other servers' ranges, that it keeps
	Dropped    int `json:"dropped,omitempty"`
	// Staleness counts the pushes by the number of updates that they knew nothing of, where they are applied one by one.
	Staleness []int   `json:"staleness,omitempty"`
	Busy      float64 `json:"busy_s"` // seconds in which it summed and updated
	// Of tables: rows that workers read, rows that were ever updated, how often in all and a second of the run, and the bytes that they
	// take in memory, and that are on disk alone.
	RowReads   uint64   `json:"row_reads,omitempty"`
	Rows       int      `json:"rows,omitempty"`
	RowUpdates uint64   `json:"row_updates,omitempty"`
	RowsPerSec float64  `json:"row_updates_per_s,omitempty"`
	Resident   int64    `json:"resident_bytes,omitempty"`
	Spilled    int64    `json:"spilled_bytes,omitempty"`
	Notes      []string `json:"notes,omitempty"`
}

// Teller is asked for at run time: a Strategy that can tell what its rank did for others; nil: nothing.
type Teller interface{ Served() *Served }

// Head is the room before the parameters in a Frame: what a strategy sends along with them costs no message of its own.
// 16 float32 are a cache line, so the parameters stay aligned.
const Head = 16

// What stands in the head of a gradient, and is summed with it.
const (
	HeadLoss = 0 // sum of the samples' losses
	HeadStop = 1 // workers that ask to stop
)

// Frame makes zeroed parameters, n of them, where g's peers can reach them if the transport offers that. frame is Head
// elements of room and then x.
func Frame(g comm.Group, n int) (frame, x []float32) {
	frame = comm.Alloc(g, Head+n)
	return frame, frame[Head:]
}

// Worker is what a strategy works with: one replica in a group. train fills it.
type Worker struct {
	Group     comm.Group
	Tree      comm.Tree // the microshards of a step and who owns which
	Model     model.Model
	Frame     []float32 // as the function Frame makes it
	X         []float32 // parameters, the end of Frame; the strategy moves them
	Optimizer optim.Optimizer
	// NewOptimizer makes another one of the same kind, for a replica of its own.
	NewOptimizer func() (optim.Optimizer, error)
	Reducer      reduce.Reducer
	// Rules say how what is sent is compressed, to a strategy that sums by itself (Serving); for others the Reducer does it. Seed
	// is the job's, for what is drawn.
	Rules reduce.Rules
	Seed  uint64
	// Another returns a second reducer of the same making, for a second vector whose state is its own; under one name the
	// same one. Ask for it in a step, with the same names on every worker. What a checkpoint holds of it, it has then.
	Another func(name string) (reduce.Reducer, error)

	Generation uint32 // of the group, in a run whose workers change
	Bucket     int    // bytes of gradient to reduce in one go; 0 is all at once
	Undo       bool   // nothing is updated before all has been summed
	Shard      bool   // each worker may keep the optimizer's state for its own part of the parameters only

	Step    int     // of this step, from 0
	Rate    float32 // learning rate of this step
	Samples int     // samples in the global batch of this step
	Total   int     // samples in the training set
	Last    bool    // no step comes after this one: replicas come together
	Stop    bool    // this worker asks all to stop after this step; nobody hears one that owns no microshard

	// Microshard hands out, and books as used, one of this worker's microshards of this step, by its leaf of Tree. Ask
	// for each once, in the same order in every step. The batch is valid until the next call.
	Microshard func(leaf int) (*data.Batch, error)
	// Slice takes Microshard's place in a strategy whose every step uses the whole training set, in the data's own order:
	// it hands out, and books as used, the samples data.Slice(leaf, leaves, Total) of one of this worker's leaves. The
	// batch of a leaf is the same in every step, may share memory with the data set and stays valid. Ask for each leaf
	// once a step.
	Slice func(leaf int) (*data.Batch, error)

	// Counts tells how many samples the microshard of any leaf has in this step, and Shares how many of the training set
	// are behind it, when leaves own their data; nil: even slices. Count and Share ask them.
	Counts, Shares func(leaf int) int

	// Spoil changes a piece of a gradient, of which off elements come before, as faults say; nil: there are none. Grad asks it.
	Spoil func(g []float32, off int)

	pass *pass // of Grad
}

// Count is how many samples the microshard of a leaf, anybody's, has in this step.
func (w *Worker) Count(leaf int) int { return slice(w.Counts, leaf, w.Tree, w.Samples) }

// Own is how many samples this worker's microshards have in this step.
func (w *Worker) Own() (n int) {
	lo, hi := w.Tree.Run(w.Group.Rank())
	for leaf := lo; leaf < hi; leaf++ {
		n += w.Count(leaf)
	}
	return n
}

// Share is how many samples of the training set are behind a leaf.
func (w *Worker) Share(leaf int) int { return slice(w.Shares, leaf, w.Tree, w.Total) }

func slice(given func(int) int, leaf int, t comm.Tree, n int) int {
	if given != nil {
		return given(leaf)
	}
	lo, hi := data.Slice(leaf, t.Leaves(), n)
	return hi - lo
}

// Tunable is asked for at run time: a Strategy that need not talk in every step, and can be told how often it does.
type Tunable interface {
	// Tune sets the steps between exchanges, from the next exchange on; 0: those that the strategy was made with.
	Tune(period int)
}

// Report is what one step did, equal on every worker but for the times.
type Report struct {
	Loss float64 // mean loss of the global batch, without regularisers: NaN has diverged
	Stop bool    // some worker asked to stop
	Done bool    // training has reached its end by itself
	Why  string  // why it is done, in words for people
	// Quiet says that workers did not talk in this step: Loss is this worker's own, and Stop not known.
	Quiet bool
	// Unused says that what this worker was handed out has no part in the parameters.
	Unused bool
	// Round counts the exchanges so far, for a strategy that does not talk in every step: 0 for others. Loss is then the
	// mean over the Steps steps since the exchange before.
	Round, Steps int
	// Decided is what was decided about the steps to come; nil when nothing was.
	Decided *Decision
	// Unmeasured says that the strategy does not know the loss, and asks for that of the parameters it leaves.
	Unmeasured bool
	// Solving is what a solver knows more; nil for others.
	Solving *Solving
	Times
}

// Decision is about the steps to come: a period, a compressor.
type Decision struct {
	What string // in the words of a job
	Why  string // in words for people
	New  bool   // it is not what went before
}

// Solving is how far a solver has come.
type Solving struct {
	Objective float64 // mean loss plus regulariser
	Gradient  float64 // the norm of its gradient, relative to that at the start
}

// Times is where a worker's time went.
type Times struct {
	Compute time.Duration // gradients and updates
	Comm    time.Duration // in reductions, whether or not computation went on beside them
	Wait    time.Duration // in which the computation stood still for a reduction: its bytes, or a slower worker
	Codec   time.Duration // of Comm, encoding and decoding
}

// Add adds o to t.
func (t *Times) Add(o Times) {
	t.Compute += o.Compute
	t.Comm += o.Comm
	t.Wait += o.Wait
	t.Codec += o.Codec
}
