package train

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
)

// Tested is what a test found.
type Tested struct {
	model.Metrics
	// AUC is the area under the ROC curve, where there are two classes: the probability that of two samples, one of each
	// class, the model finds class 1 likelier for the one that is of class 1, ties counted half. nil when there are more
	// classes, or samples of one alone, or the model does not predict.
	AUC *float64
}

// scorer returns m when what it says of ds has an AUC, else nil.
func scorer(m model.Model, ds data.Dataset) model.Predictor {
	p, ok := m.(model.Predictor)
	if in := data.Shape(ds); !ok || in.Task != data.Classification || in.Classes != 2 || p.Outputs() != 2 {
		return nil
	}
	return p
}

// appendScores appends four bytes for each sample: the bits of class 1's probability, whose sign is free for the class.
// Numbers from 0 on are in the order of their bits.
func appendScores(to []byte, out []float32, class []int32) []byte {
	for i, c := range class {
		to = binary.LittleEndian.AppendUint32(to, math.Float32bits(out[2*i+1])&^(1<<31)|uint32(c)<<31)
	}
	return to
}

// auc is that of samples as appendScores has them, in any order. It needs all of them (Metrics add up, ranks do not): four
// bytes each, where the samples themselves, which every worker holds, have more. It counts in whole numbers and divides
// once, so that it is exact and the same however the samples are cut.
func auc(packed []byte) *float64 {
	scores := make([]uint32, len(packed)/4)
	for i := range scores {
		s := binary.LittleEndian.Uint32(packed[4*i:])
		scores[i] = s<<1 | s>>31
	}
	slices.Sort(scores) // by probability, ties by class
	var twice, negative, positive uint64
	for i := 0; i < len(scores); {
		score := scores[i] >> 1
		of := [2]uint64{}
		for ; i < len(scores) && scores[i]>>1 == score; i++ {
			of[scores[i]&1]++
		}
		twice += of[1] * (2*negative + of[0])
		negative, positive = negative+of[0], positive+of[1]
	}
	if negative == 0 || positive == 0 {
		return nil
	}
	area := float64(twice) / float64(2*negative*positive)
	return &area
}
