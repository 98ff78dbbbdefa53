package job

import (
	"strings"
	"testing"
)

func TestParseRoundTrip(t *testing.T) {
	j, err := Parse("job.yaml", []byte(`
# a comment
data: ../shared/data/mnist   # more
model: {mlp: [128, 64]}
optimizer:
  sgd:
    momentum: 0.9
    nesterov: true
lr: 1e-3
bucket: 64KiB
timeout: 2m
target: "no"
`))
	if err != nil {
		t.Fatal(err)
	}
	if j.Model != "mlp:128,64" || j.Optimizer != "sgd:momentum=0.9,nesterov=true" || j.LR != 1e-3 || j.Bucket != 64<<10 || j.Target != "no" {
		t.Fatalf("%+v", j)
	}
	k, err := Parse("again", j.YAML())
	if err != nil {
		t.Fatalf("%v\n%s", err, j.YAML())
	}
	if string(k.YAML()) != string(j.YAML()) {
		t.Fatalf("%s\n\n%s", j.YAML(), k.YAML())
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"data: x\nmodle: mlp":         `job.yaml:2: unknown key "modle": did you mean "model"?`,
		"workers: two":                `job.yaml:1: workers: "two" is not a whole number`,
		"lr: [1, 2]":                  `job.yaml:1: lr: takes one value`,
		"\n\nworkers: 2\nworkers: 3":  `job.yaml:4: `,
		"- a\n- b":                    `job.yaml:1: expected keys`,
		"data: [":                     `job.yaml:1: `,
		"timeout: 5":                  `job.yaml:1: timeout: "5" is not a duration such as 30s`,
		"model: {mlp: [1], linear: }": `job.yaml:1: model: expected a name`,
	} {
		_, err := Parse("job.yaml", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q\n got %v\nwant %s", text, err, want)
		}
	}
}
