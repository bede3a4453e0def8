# SPDX-License-Identifier: MPL-2.0

# Where an event goes that was retried and failed, or grew too old. Nothing is lost with it: the next full run looks at everything.

locals {
  own_queue           = var.failure_destination == null
  failure_destination = local.own_queue ? aws_sqs_queue.failures[0].arn : var.failure_destination.arn
  failures_to_sns     = local.own_queue ? false : var.failure_destination.service == "sns"
}

resource "aws_sqs_queue" "failures" {
  count = local.own_queue ? 1 : 0

  name                      = "${var.name}-failures"
  message_retention_seconds = 1209600 # 14 days, the longest there is
  sqs_managed_sse_enabled   = true
  tags                      = var.tags
}

# For what EventBridge could not hand to the function. Lambda itself sends with the function's role.
resource "aws_sqs_queue_policy" "failures" {
  count = local.own_queue ? 1 : 0

  queue_url = aws_sqs_queue.failures[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "UndeliveredEvents"
      Effect    = "Allow"
      Action    = "sqs:SendMessage"
      Principal = { Service = "events.amazonaws.com" }
      Resource  = aws_sqs_queue.failures[0].arn
      Condition = { ArnEquals = { "aws:SourceArn" = [for rule in aws_cloudwatch_event_rule.this : rule.arn] } }
    }]
  })
}

resource "aws_lambda_function_event_invoke_config" "registration" {
  function_name                = aws_lambda_function.registration.function_name
  maximum_retry_attempts       = var.maximum_retry_attempts
  maximum_event_age_in_seconds = var.maximum_event_age_in_seconds

  destination_config {
    on_failure {
      destination = local.failure_destination
    }
  }

  # Lambda refuses a destination that the role may not send to.
  depends_on = [aws_iam_role_policy_attachment.lambda_logs]

  lifecycle {
    replace_triggered_by = [aws_lambda_function.registration.arn]
  }
}
