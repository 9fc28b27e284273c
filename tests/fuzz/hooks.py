"""What schemathesis has to be told: the body of an upload in pieces is bytes."""

import schemathesis

from callsheet.http.uploads.tus import BODY_TYPE

schemathesis.serializer.alias(BODY_TYPE, "application/octet-stream")
