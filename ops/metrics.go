package ops

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/VictoriaMetrics/metrics"

	"github.com/covey-ml/covey/comm"
)

// stepBounds are the buckets of covey_step_seconds: a factor of about two and a half each, from steps of small models on one
// machine to those of large ones over slow links.
var stepBounds = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60}

func init() { metrics.ExposeMetadata(true) } // of the runtime's metrics: their types

// WriteMetrics writes the meter's numbers, and those of the Go runtime and the process, as Prometheus reads them (text format
// 0.0.4). The labels rank and run are those of now: a worker that has another rank in the next generation begins other series.
func (m *Meter) WriteMetrics(w io.Writer) error {
	n, now := m.read()
	e := exposition{labels: fmt.Sprintf(`run="%s",rank="%d"`, escape(m.run), n.seat.Rank)}

	ready, _ := m.ready(&n, now)
	e.family("covey_ready", "gauge", "1 while the worker has a seat in a generation and steps go on, else 0.")
	e.value("", truth(ready))
	e.family("covey_step", "gauge", "Last step done, counted from the start of the run.")
	e.value("", float64(n.step))
	e.family("covey_steps", "gauge", "Steps of the whole run.")
	e.value("", float64(n.steps))
	e.family("covey_steps_total", "counter", "Steps done by this process, those that were done again counted again.")
	e.value("", float64(n.done))
	e.family("covey_samples_total", "counter", "Samples of these steps' batches, over all workers.")
	e.value("", float64(n.samples))
	e.family("covey_own_samples_total", "counter", "Of covey_samples_total, this worker's part.")
	e.value("", n.own)
	if n.lossKnown {
		e.family("covey_loss", "gauge", "Training loss of the last step, or this worker's own where workers do not talk in every step.")
		e.value("", n.loss)
		e.family("covey_learning_rate", "gauge", "Learning rate of the last step.")
		e.value("", n.rate)
	}
	e.family("covey_epoch", "gauge", "Pass over the data that the last step belongs to, from 1.")
	e.value("", float64(n.epoch))
	e.family("covey_generation", "gauge", "Number of the set of workers that this one trains in, from 1; 0 before the first.")
	e.value("", float64(n.seat.Generation))
	e.family("covey_workers", "gauge", "Workers of that set.")
	e.value("", float64(n.seat.Workers))
	e.family("covey_regroups_total", "counter", "Sets of workers that this one has gone on in after the first.")
	e.value("", float64(n.regroups))
	e.family("covey_seconds_total", "counter", "Seconds of steps: compute (gradients, updates), comm (in reductions, hidden behind compute or not), wait (compute standing still for reductions), codec (of comm, encoding and decoding).")
	e.value(`what="compute"`, n.times.Compute.Seconds())
	e.value(`what="comm"`, n.times.Comm.Seconds())
	e.value(`what="wait"`, n.times.Wait.Seconds())
	e.value(`what="codec"`, n.times.Codec.Seconds())
	e.books(&n.books)
	if n.savedOnce {
		e.family("covey_checkpoint_step", "gauge", "Step of the last checkpoint that was saved by this process.")
		e.value("", float64(n.saved))
	}
	e.family("covey_checkpoint_failures_total", "counter", "Checkpoints that could not be saved.")
	e.value("", float64(n.saveFailures))

	e.family("covey_step_seconds", "histogram", "Seconds from what was done before a step (a step, a test, a checkpoint) to its end.")
	below := uint64(0)
	for i, count := range n.lasted {
		below += count
		bound := "+Inf"
		if i < len(stepBounds) {
			bound = strconv.FormatFloat(stepBounds[i], 'g', -1, 64)
		}
		e.line("covey_step_seconds_bucket", `le="`+bound+`"`, float64(below))
	}
	e.line("covey_step_seconds_sum", "", n.lastedSum.Seconds())
	e.line("covey_step_seconds_count", "", float64(below))

	if _, err := w.Write(e.b); err != nil {
		return err
	}
	metrics.WriteGoMetrics(w)
	metrics.WriteProcMetrics(w)
	return nil
}

// books writes the byte ledger. Operations that nothing was sent for are left out.
func (e *exposition) books(b *comm.Books) {
	e.family("covey_bytes_total", "counter", "Bytes that this worker sent, by operation: payload, the headers that carried it, and control.")
	for op, entry := range b {
		if entry.Sent() == 0 {
			continue
		}
		name := `op="` + comm.Op(op).String() + `",kind=`
		e.value(name+`"payload"`, float64(entry.Payload))
		e.value(name+`"header"`, float64(entry.Header))
		e.value(name+`"control"`, float64(entry.Control))
	}
	e.family("covey_messages_total", "counter", "Messages that this worker sent, by operation.")
	for op, entry := range b {
		if entry.Messages > 0 {
			e.value(`op="`+comm.Op(op).String()+`"`, float64(entry.Messages))
		}
	}
}

// exposition is a page of metrics as it is written.
type exposition struct {
	b      []byte
	labels string // of every line
	name   string // of the family that is being written
}

// family begins a metric.
func (e *exposition) family(name, kind, help string) {
	e.name = name
	e.b = fmt.Appendf(e.b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// value writes a line of the family, with labels of its own.
func (e *exposition) value(own string, v float64) { e.line(e.name, own, v) }

func (e *exposition) line(name, own string, v float64) {
	e.b = append(append(append(e.b, name...), '{'), e.labels...)
	if own != "" {
		e.b = append(append(e.b, ','), own...)
	}
	e.b = append(e.b, "} "...)
	e.b = append(strconv.AppendFloat(e.b, v, 'g', -1, 64), '\n')
}

// escape makes a text the value of a label.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "?"))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
