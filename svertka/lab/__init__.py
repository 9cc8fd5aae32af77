"""The lab: convolution under one's hands, in the browser; a server for this machine, and the page that it shows."""
