package train

import (
	"cmp"
	"fmt"
	"math"
	"strings"
)

// rescales are the rules that Config.Rescale may name.
var rescales = []string{"linear", "sqrt"}

// Pace is the batch and the rate of a run whose batch follows its workers (Config.Rescale), and since when they are in force. They
// change between two steps, in the midst of an epoch too: what is left of the epoch's order is cut into batches of the new size,
// so that each sample is still used once.
type Pace struct {
	Step    int     `json:"step"`    // steps done when it came into force
	Epoch   int     `json:"epoch"`   // epochs done then
	Used    int     `json:"used"`    // samples used then of the one under way
	Batch   int     `json:"batch"`   // samples of a step
	Rate    float64 `json:"rate"`    // times what the job says
	Workers int     `json:"workers"` // that have a part in a batch
	Of      int     `json:"of"`      // that the job's batch is meant for
}

// String says it in words.
func (p Pace) String() string {
	s := fmt.Sprintf("from step %d on batch %d, rate x%.4g: %d workers", p.Step+1, p.Batch, p.Rate, p.Workers)
	if p.Workers == 1 {
		s = strings.TrimSuffix(s, "s")
	}
	if p.Workers != p.Of {
		s += fmt.Sprintf(" in place of %d", p.Of)
	}
	return s
}

// Rescaled says in words what batch and rate are in force from here on; empty when they are the job's, and nothing has changed.
func (i StartInfo) Rescaled() string {
	if p := i.Pace; p != nil && (p.Workers != p.Of || p.Step > 0 && p.Step == i.Step) {
		return p.String()
	}
	return ""
}

// at says how many epochs over n samples are done before a step, which is not before p.Step, and how much of the next is used.
func (p Pace) at(step, n int) (epoch, used int) {
	step -= p.Step
	first := ends(n-p.Used, p.Batch) // steps to the end of the epoch that was under way
	if step < first {
		return p.Epoch, p.Used + step*p.Batch
	}
	step -= first
	per := ends(n, p.Batch)
	return p.Epoch + 1 + step/per, step % per * p.Batch
}

// steps is how many steps are done after so many epochs over n samples.
func (p Pace) steps(epochs, n int) int {
	if epochs <= p.Epoch {
		return p.Step
	}
	return p.Step + ends(n-p.Used, p.Batch) + (epochs-p.Epoch-1)*ends(n, p.Batch)
}

// check refuses what is no pace after a step of a run over n samples.
func (p Pace) check(step, n int) error {
	if p.Step < 0 || p.Step > step || p.Epoch < 0 || p.Used < 0 || p.Used >= n || p.Batch < 1 || p.Batch > n || p.Workers < 1 || p.Of < 1 || !(p.Rate > 0 && p.Rate <= math.MaxFloat32) {
		return fmt.Errorf("train: this is no pace after step %d of a run over %d samples: %+v", step, n, p)
	}
	return nil
}

// pace is that of a run at its start, on a group of so many workers.
func (c *Config) pace(workers int) Pace {
	of := min(cmp.Or(c.Workers, workers), c.Microshards)
	return Pace{Batch: c.Batch, Rate: 1, Workers: of, Of: of}
}

// paceInForce is for others to know: nil where the batch does not follow the workers.
func (r *run) paceInForce() *Pace {
	if r.c.Rescale == "" {
		return nil
	}
	p := r.pace
	return &p
}

// keepPace goes on at the pace at which the state after a step was come to; nil: at that of the start.
func (r *run) keepPace(p *Pace, step int) error {
	if p == nil || r.c.Rescale == "" {
		return nil
	}
	if err := p.check(step, r.c.Train.Len()); err != nil {
		return err
	}
	r.setPace(*p)
	return nil
}

func (r *run) setPace(p Pace) {
	s := r.sampler.(sliced) // where clients own the data there is no rule
	s.pace = p
	r.sampler, r.pace = s, p
}

// rescale has the batch follow this group's workers, from the step to come on, and says how many steps there are by that.
func (r *run) rescale() {
	if p := r.pace; r.c.Rescale != "" {
		if p.Workers = min(r.workers, r.c.Microshards); p.Workers != r.pace.Workers {
			p.Step, p.Epoch, p.Used = r.step, r.epoch, r.used
			p.Batch = min(max(r.c.Batch*p.Workers/p.Of, r.c.Microshards), r.c.Train.Len())
			if p.Rate = float64(p.Batch) / float64(r.c.Batch); r.c.Rescale == "sqrt" {
				p.Rate = math.Sqrt(p.Rate)
			}
			r.setPace(p)
		}
	}
	r.measure()
}

// measure says how many steps the run has.
func (r *run) measure() {
	if r.total = r.c.Steps; r.total == 0 {
		r.total = r.sampler.Steps(r.c.Epochs)
	}
}

// rate is that of the step to come. Where batches differ, a schedule over epochs goes by the steps that batches as the job asks for
// would have taken: it ends with the data, whoever was there.
func (r *run) rate() float32 {
	done := r.step
	if r.c.Rescale != "" && r.c.Steps == 0 {
		done = r.epoch*ends(r.c.Train.Len(), r.c.Batch) + r.used/r.c.Batch
	}
	return float32(r.schedule.Rate(done+1) * r.pace.Rate)
}
