package comm

import "math"

// bucketStart is how much of a bucket's time may go to starting it: one part in so many.
const bucketStart = 16

// BucketBytes returns how many bytes of a vector of total bytes should be summed in one go over t while the rest of it
// is still being computed, as gradients are in a backward pass. total means all in one.
//
// Summing b bytes takes A + B b, by the prices of Update (which is Direct, or Shared where ranks share memory): A for rounds and messages, B for bytes and
// additions. What computing cannot hide is the last bucket, A + B b; what buckets cost is total/b starts of A each, of
// the processor or of the link. The sum of both is least at b = sqrt(total A/B), where the starts of all buckets take as
// long as the bytes of the last. For short vectors that is too short, for much of a bucket's time then goes to its
// start; so a bucket is at least (bucketStart - 1) A/B, which bounds that share to one part in bucketStart. If that is
// more than half of the vector, it is one bucket: a second would be shorter than it pays.
//
// Where moving bytes is the processors' own work (Costs.Busy) nothing is hidden behind computing: it is one bucket, too.
// (A core that is spare could hide it; but every rank must cut alike, and each knows only its own host.) The result grows
// with A, with 1/B and with total.
func BucketBytes(c Costs, t Tree, total int) int {
	if t.Ranks() == 1 || total <= 0 || c.Busy {
		return total
	}
	a := Direct
	if c.Board.Meeting > 0 && Shared.Fits(t) {
		a = Shared
	}
	s := c.terms(a, t, total)
	start := s[termRounds] + s[termMessages]
	rate := (s[termBytes] + s[termAdded] + s[termFar]) / float64(total)
	if rate <= 0 {
		return total
	}
	b := max((bucketStart-1)*start/rate, math.Sqrt(float64(total)*start/rate))
	if b > float64(total)/2 {
		return total
	}
	return max(word, int(b))
}
