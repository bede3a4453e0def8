# SPDX-License-Identifier: MPL-2.0

locals {
  # CloudTrail writes API names with the date of their version, which changes. A prefix alone would also take in the likes of
  # CreateFunctionUrlConfig.
  watched = ["CreateFunction", "DeleteFunction", "TagResource", "UntagResource", "CreateAlias", "UpdateAlias", "DeleteAlias"]

  # The keys and names are those of the predecessor, so that its rules are kept.
  events_key   = "${var.name}-lambda_events"
  schedule_key = "${var.name}-cron"

  rules = {
    (local.events_key) = {
      description = "Changes of functions, their tags and their aliases, as CloudTrail saw them"
      schedule    = null
      pattern = jsonencode({
        source        = ["aws.lambda"]
        "detail-type" = ["AWS API Call via CloudTrail"]
        detail = {
          eventSource = ["lambda.amazonaws.com"]
          eventName   = concat(local.watched, [for name in local.watched : { prefix = "${name}20" }])
          # A call that failed has changed nothing.
          errorCode = [{ exists = false }]
        }
      })
    }
    (local.schedule_key) = {
      description = "A look at everything"
      schedule    = "rate(${var.sync_frequency_in_minutes} ${var.sync_frequency_in_minutes == 1 ? "minute" : "minutes"})"
      pattern     = null
    }
  }

  targets = {
    "Process CloudTrail events" = local.events_key
    "Periodic sync"             = local.schedule_key
  }
}

resource "aws_cloudwatch_event_rule" "this" {
  for_each = local.rules

  name                = "${replace(each.key, "_", "-")}-rule"
  description         = each.value.description
  event_pattern       = each.value.pattern
  schedule_expression = each.value.schedule
  tags                = var.tags
}

resource "aws_cloudwatch_event_target" "this" {
  for_each = local.targets

  rule = aws_cloudwatch_event_rule.this[each.value].name
  arn  = aws_lambda_function.registration.arn

  # These are about handing the event to Lambda; what Lambda does with it is in failures.tf.
  retry_policy {
    maximum_event_age_in_seconds = var.maximum_event_age_in_seconds
    maximum_retry_attempts       = 185
  }

  dynamic "dead_letter_config" {
    for_each = local.own_queue ? [true] : []
    content {
      arn = aws_sqs_queue.failures[0].arn
    }
  }
}

resource "aws_lambda_permission" "cloudtrail_invoke" {
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.registration.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.this[local.events_key].arn

  lifecycle {
    # A permission goes with its function, and the name of a new one says nothing of that.
    replace_triggered_by = [aws_lambda_function.registration.arn]
  }
}

resource "aws_lambda_permission" "cron_invoke" {
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.registration.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.this[local.schedule_key].arn

  lifecycle {
    replace_triggered_by = [aws_lambda_function.registration.arn]
  }
}
