package spake2plus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

func TestRecordIsKept(t *testing.T) {
	secrets, err := NewSecrets(bytes.Repeat([]byte{7}, SecretBytes))
	if err != nil {
		t.Fatal(err)
	}
	kept := secrets.Record().Bytes()
	record, err := ParseRecord(kept)
	if err != nil {
		t.Fatal(err)
	}
	parties := Parties{Context: []byte("c"), Prover: []byte("p"), Verifier: []byte("v")}
	p := NewProver(secrets, parties)
	v, err := Respond(record, parties, p.Share())
	if err != nil {
		t.Fatal(err)
	}
	confirm, err := p.Finish(v.Share(), v.Confirm())
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Check(confirm); err != nil {
		t.Fatal(err)
	}
}

func TestOddRecordsAreRefused(t *testing.T) {
	good := (&Secrets{w0: scalar{31: 1}, w1: scalar{31: 2}}).Record().Bytes()
	var atOrder, belowOrder scalar
	for i, limb := range order {
		binary.BigEndian.PutUint64(atOrder[24-8*i:], limb)
		binary.BigEndian.PutUint64(belowOrder[24-8*i:], limb)
	}
	belowOrder[31]--
	for name, c := range map[string]struct {
		record []byte
		want   error
	}{
		"good":           {good, nil},
		"below order":    {append(belowOrder[:], good[32:]...), nil},
		"order":          {append(atOrder[:], good[32:]...), ErrRecord},
		"all ones":       {append(bytes.Repeat([]byte{0xff}, 32), good[32:]...), ErrRecord},
		"short":          {good[:len(good)-1], ErrRecord},
		"long":           {append(bytes.Clone(good), 0), ErrRecord},
		"infinity":       {append(bytes.Clone(good[:32]), make([]byte, ShareBytes)...), ErrRecord},
		"not on a curve": {append(bytes.Clone(good[:32]), bytes.Repeat([]byte{4}, ShareBytes)...), ErrRecord},
		"nothing":        {nil, ErrRecord},
	} {
		if _, err := ParseRecord(c.record); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}
