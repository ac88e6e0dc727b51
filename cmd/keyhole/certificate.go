package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/protocol/identity"
)

func (a *app) certificateCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "certificate", Short: "Be known by a certificate of your company's authority", Args: words(0, 0),
		Long: `A device that trusts a certificate authority lets in whom it certifies, without
pairing, as far as the owner gives a role. The certificate is one for this client's own
key, and stands in identity.pem beside it. Every device is shown it once it has proven
its own key.`,
		Example: `  keyhole certificate request --email alice@example.net > alice.csr
  keyhole certificate install alice.pem
  keyhole certificate show`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(a.certificateRequest(), a.certificateInstall(), a.certificateShow(), a.certificateRemove())
	return c
}

func (a *app) certificateRequest() *cobra.Command {
	var r identity.Request
	c := &cobra.Command{
		Use: "request", Short: "Print a request for your authority to sign, in PEM", Args: words(0, 0),
		Long:    "The request is for this client's key and suggests a name; what is signed is for the authority to say.",
		Example: "  keyhole certificate request --email alice@example.net > alice.csr",
		RunE: func(*cobra.Command, []string) error {
			h, err := a.home()
			if err != nil {
				return err
			}
			data, err := h.CertificateRequest(r)
			if err != nil {
				return err
			}
			_, err = a.out.Write(data)
			return err
		},
	}
	c.Flags().StringVar(&r.Email, "email", "", "e-mail `address` to be certified")
	c.Flags().StringVar(&r.CommonName, "name", "", "common `name` for the subject")
	return c
}

func (a *app) certificateInstall() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "install FILE", Short: "Take what the authority has signed, and its intermediates", Args: words(1, 1),
		Long:    "FILE is PEM (- is standard input): the certificate for this client's key and, in any order, those of intermediate authorities.",
		Example: "  keyhole certificate install alice.pem",
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := a.readFile(args[0])
			if err != nil {
				return err
			}
			h, err := a.home()
			if err != nil {
				return err
			}
			c, err := h.InstallCertificate(data)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return a.tellCertificate(c, a.err, "installed: ")
		},
	})
}

// maxFile bounds what is read from a file that is named on the command line.
const maxFile = 1 << 20

func (a *app) readFile(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(a.in, maxFile))
	}
	f, err := os.Open(path)
	var wrong *fs.PathError
	if errors.As(err, &wrong) {
		return nil, fmt.Errorf("%s: %w", path, wrong.Err)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

func (a *app) certificateShow() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "show", Short: "Whom the certificate names, and until when", Args: words(0, 0),
		Example: "  keyhole certificate show",
		RunE: func(*cobra.Command, []string) error {
			h, err := a.home()
			if err != nil {
				return err
			}
			c, err := h.Certificate()
			if err != nil {
				return err
			}
			return a.tellCertificate(c, a.out, "")
		},
	})
}

// tellCertificate prints a certificate in words to w; with --json, as a document.
func (a *app) tellCertificate(c client.Certificate, w io.Writer, what string) error {
	if a.json {
		return a.document(c)
	}
	_, err := fmt.Fprintf(w, "%s\n%s\n", plain(fmt.Sprintf("%s%s (%s)", what, c.ID, c.Kind)),
		plain(fmt.Sprintf("certified by %s, from %s until %s", c.Issuer, c.From.Local().Format(time.DateOnly), c.Until.Local().Format(time.DateOnly))))
	switch now := time.Now(); {
	case now.After(c.Until):
		a.say("note: it has ended: no device takes it")
	case now.Before(c.From):
		a.say("note: it is not valid yet")
	}
	return err
}

func (a *app) certificateRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove", Short: "Be the bare key again; devices paired with know it as before", Args: words(0, 0),
		Example: "  keyhole certificate remove",
		RunE: func(*cobra.Command, []string) error {
			h, err := a.home()
			if err != nil {
				return err
			}
			if err := h.RemoveCertificate(); err != nil {
				return err
			}
			a.say("removed")
			return nil
		},
	}
}
