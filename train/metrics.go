package train

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
)

// MetricsFile is the name of the metrics in a run folder: one JSON object a line, for each step and each epoch.
const MetricsFile = "metrics.jsonl"

// StepLine is the line of a step. Steps and epochs count from 1.
type StepLine struct {
	Step      int     `json:"step"`
	Epoch     int     `json:"epoch"`
	Loss      float64 `json:"loss"`
	Quiet     bool    `json:"quiet,omitempty"` // no exchange in this step: the loss is rank 0's own
	Round     int     `json:"round,omitempty"` // exchanges so far; the loss is that of the steps since the one before
	Rate      float64 `json:"lr"`
	Objective float64 `json:"mean_objective,omitempty"` // of a solver: loss plus regulariser
	Gradient  float64 `json:"gradient,omitempty"`       // of a solver: its norm, relative to that at the start
	Decided   string  `json:"decided,omitempty"`        // about the steps to come: a period, a compressor
	Why       string  `json:"why,omitempty"`            // it was
	At        float64 `json:"at_s"`                     // since the run, or its resumption, began
	Compute   float64 `json:"compute_s"`
	Comm      float64 `json:"comm_s"`
	Wait      float64 `json:"wait_s"`
	Sent      int64   `json:"bytes_sent"`     // by rank 0, since the line before: payload and headers
	Expected  int64   `json:"bytes_expected"` // by the closed forms
}

// EpochLine is the line of an epoch that has ended.
type EpochLine struct {
	Step     int      `json:"step"`
	Epoch    int      `json:"epoch_end"`
	Loss     float64  `json:"loss"`
	Quiet    bool     `json:"quiet,omitempty"` // no round ended in this epoch: the loss is the last that is known, 0 before the first
	Accuracy *float64 `json:"accuracy,omitempty"`
	AUC      *float64 `json:"auc,omitempty"`
	TestLoss *float64 `json:"test_loss,omitempty"`
	At       float64  `json:"at_s"`
	Samples  string   `json:"sample_ledger,omitempty"`
}

// metrics appends to the run folder's metrics; a nil *metrics writes nothing. What cannot be written is dropped: a full
// disk must not end a run.
type metrics struct {
	f   *os.File
	w   *bufio.Writer
	buf []byte
	// each says that a line is written at once: who writes may be killed, and another goes on where it stood.
	each bool
}

// openFolder takes the run folder, which somebody had taken before by the number last, and opens its metrics.
func (r *run) openFolder(last int) (err error) {
	if r.c.Dir == "" || r.g.Rank() != 0 {
		return nil
	}
	if err := os.MkdirAll(r.c.Dir, 0o777); err != nil {
		return err
	}
	if r.fence, err = takeFolder(r.c.Dir, last); err != nil {
		return err
	}
	path := filepath.Join(r.c.Dir, MetricsFile)
	if err := keepUntil(path, r.step); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	r.metrics = &metrics{f: f, w: bufio.NewWriter(r.fence.behind(f)), each: r.kept != nil}
	return nil
}

// keepUntil drops the lines of steps that the resumed run will do again, and a last line that was cut off.
func keepUntil(path string, step int) error {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size := int64(0)
	for in := bufio.NewScanner(f); in.Scan(); {
		var line struct{ Step int }
		if json.Unmarshal(in.Bytes(), &line) != nil || line.Step > step {
			break
		}
		size += int64(len(in.Bytes())) + 1
	}
	if st, err := f.Stat(); err != nil || st.Size() <= size {
		return err
	}
	return os.Truncate(path, size)
}

// step writes a StepLine without allocating.
func (m *metrics) step(s StepInfo) {
	if m == nil {
		return
	}
	b := append(m.buf[:0], `{"step":`...)
	b = strconv.AppendInt(b, int64(s.Step), 10)
	b = append(b, `,"epoch":`...)
	b = strconv.AppendInt(b, int64(s.Epoch), 10)
	for _, f := range [...]struct {
		key string
		v   float64
	}{{"loss", s.Loss}, {"lr", s.Rate}, {"at_s", s.At.Seconds()}, {"compute_s", s.Compute.Seconds()},
		{"comm_s", s.Comm.Seconds()}, {"wait_s", s.Wait.Seconds()}} {
		b = append(b, ',', '"')
		b = append(b, f.key...)
		b = append(b, '"', ':')
		b = strconv.AppendFloat(b, f.v, 'g', 7, 64)
	}
	switch {
	case s.Quiet:
		b = append(b, `,"quiet":true`...)
	case s.Round > 0:
		b = append(b, `,"round":`...)
		b = strconv.AppendInt(b, int64(s.Round), 10)
	}
	if s.Solving != nil {
		b = append(b, `,"mean_objective":`...)
		b = strconv.AppendFloat(b, s.Solving.Objective, 'g', -1, 64)
		b = append(b, `,"gradient":`...)
		b = strconv.AppendFloat(b, s.Solving.Gradient, 'g', 4, 64)
	}
	if d := s.Decided; d != nil {
		b = append(b, `,"decided":`...)
		b = strconv.AppendQuote(b, d.What)
		b = append(b, `,"why":`...)
		b = strconv.AppendQuote(b, d.Why)
	}
	sum := s.Books.Sum()
	b = append(b, `,"bytes_sent":`...)
	b = strconv.AppendInt(b, sum.Payload+sum.Header, 10)
	b = append(b, `,"bytes_expected":`...)
	b = strconv.AppendInt(b, sum.Expected, 10)
	m.buf = append(b, '}', '\n')
	m.w.Write(m.buf)
	if m.each {
		m.w.Flush()
	}
}

func (m *metrics) epoch(e EpochInfo) {
	if m == nil {
		return
	}
	line := EpochLine{Step: e.Step, Epoch: e.Epoch, Loss: e.Loss, Quiet: e.Quiet, Accuracy: e.Accuracy, AUC: e.Test.AUC, At: e.At.Seconds(), Samples: e.Booked()}
	if e.Test.N > 0 {
		loss := e.Test.Loss / float64(e.Test.N)
		line.TestLoss = &loss
	}
	if b, err := json.Marshal(line); err == nil {
		m.w.Write(append(b, '\n'))
	}
	m.w.Flush()
}

func (m *metrics) close() {
	if m != nil {
		m.w.Flush()
		m.f.Close()
	}
}

func rootMean(sum float64, n int) float64 { return math.Sqrt(sum / float64(n)) }
