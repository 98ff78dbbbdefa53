//go:build integration && s3 && gs && azblob

package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/internal/storetest"
	"github.com/covey-ml/covey/model/zoo"
	"github.com/covey-ml/covey/spec"
	training "github.com/covey-ml/covey/train"
)

func savedTo(t *testing.T, where string) training.Config {
	t.Helper()
	tr, test, err := data.Open(t.Context(), "digits:train=300,test=100", data.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := spec.Parse("mlp:24")
	if err != nil {
		t.Fatal(err)
	}
	m, err := zoo.New(s, tr.Info(), tr.Len(), tr)
	if err != nil {
		t.Fatal(err)
	}
	return training.Config{Model: m, Train: tr, Test: test, Batch: 60, Microshards: 6, Epochs: 4, Seed: 3, SaveEvery: 3, Keep: 2,
		Dir: t.TempDir(), Checkpoints: where}
}

// TestTrainsIntoAnObjectStore: a run whose checkpoints are in a store goes on from there, with other workers, to the weights of the
// run that was never stopped, whether one of its workers writes them or all do.
func TestTrainsIntoAnObjectStore(t *testing.T) {
	for name, start := range map[string]func(*testing.T) string{"s3": storetest.S3, "gs": storetest.GS, "azblob": storetest.Azure} {
		for together := range 2 {
			t.Run(fmt.Sprint(name, together), func(t *testing.T) { trainsInto(t, start(t), together) })
		}
	}
}

func trainsInto(t *testing.T, run string, together int) {
	calm, err := training.Local(t.Context(), 2, 30*time.Second, savedTo(t, run))
	if err != nil || calm.SaveError != "" || calm.Steps != 20 {
		t.Fatalf("%+v, %v", calm, err)
	}
	c := savedTo(t, strings.Replace(run, "digits/a", "digits/b", 1))
	c.SaveTogether = together
	var told []int
	c.Events.Checkpoint = func(i training.CheckpointInfo) {
		if i.Err != nil {
			t.Errorf("step %d: %v", i.Step, i.Err)
		}
		told = append(told, i.Step)
	}
	c.Steps = 13
	if _, err := training.Local(t.Context(), 3, 30*time.Second, c); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, []int{3, 6, 9, 12, 13}) {
		t.Errorf("told of the checkpoints of steps %v", told)
	}
	all, err := ckpt.List(c.Checkpoints)
	if err != nil || len(all) != 2 || all[0].Step != 12 || all[1].Step != 13 {
		t.Fatalf("left %v, %v", all, err)
	}
	if m, err := ckpt.Verify(all[0].Path); err != nil || len(m.Files) != 2+5*together {
		t.Errorf("files %v, %v", m.Files, err)
	}
	c.Steps, c.Resume = 0, all[0].Path
	r, err := training.Local(t.Context(), 2, 30*time.Second, c)
	if err != nil || r.Weights != calm.Weights || r.First != 12 || r.SaveError != "" {
		t.Errorf("resumed: %+v, %v, want the weights %s", r, err, calm.Weights)
	}
}

// TestStoreThatIsNotThere: training goes to its end, and the report says what could not be saved and why.
func TestStoreThatIsNotThere(t *testing.T) {
	storetest.S3(t) // for its credentials: the endpoint is another
	c := savedTo(t, "s3://runs/a?region=us-east-1&endpoint=http://127.0.0.1:1")
	c.SaveEvery = 10
	r, err := training.Local(t.Context(), 2, 30*time.Second, c)
	if err != nil || r.Steps != 20 || !strings.Contains(r.SaveError, "s3://runs") || !strings.Contains(r.SaveError, "refused") {
		t.Errorf("%+v, %v", r, err)
	}
}
