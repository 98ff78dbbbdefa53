package job

import "testing"

// A mapping says what the text says: one choice with its parameters, or patterns with their choices.
func TestCompressMappings(t *testing.T) {
	for text, want := range map[string]string{
		"compress: topk:0.01+ef":                             "topk:0.01+ef",
		"compress: {powersgd: {rank: 2}}":                    "powersgd:rank=2",
		"compress: {bias: none, \"*\": powersgd:4+ef}":       "bias: none; *: powersgd:4+ef",
		"compress: {bias: none, \"*\": {topk: {ratio: .5}}}": "bias: none; *: topk:ratio=.5",
	} {
		j, err := Parse("job.yaml", []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if string(j.Compress) != want {
			t.Errorf("%s: %q, expected %q", text, j.Compress, want)
		}
		again, err := Parse("job.yaml", j.YAML())
		if err != nil || again.Compress != j.Compress {
			t.Errorf("%s: written and read it is %q, %v", text, again.Compress, err)
		}
		if err := j.Fill(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := Parse("job.yaml", []byte("compress: [topk]")); err == nil {
		t.Error("a list is read")
	}
}
